// SPDX-License-Identifier: MIT
#include "core/no_cuda.h"
#include "solve/device/kept_shares.h"
#include "solve/solvers.h"

// Stands in for solve_cuda.cu and kept_shares.cu in a build without CUDA.
namespace lplb {

struct DeviceWorkspace {};
void Workspace::DeviceDeleter::operator()(DeviceWorkspace* device) const { delete device; }

namespace solvers {

bool solve_on_device(const Tables&, const SolveOptions&, Solver, Buffers&) {
  refuse_without_cuda();
}

bool solve_batch_on_device(const Tables&, const SolveOptions&, Solver, std::span<const Load>,
                           std::span<Load>, std::span<SplitSummary>, std::vector<char>&, Buffers&) {
  refuse_without_cuda();
}

struct KeptShares::State {};
KeptShares::KeptShares(const Placement&, const OriginalTables&) { refuse_without_cuda(); }
KeptShares::~KeptShares() = default;
void KeptShares::run(StreamHandle, const std::int32_t*, const Outputs&) const {
  refuse_without_cuda();
}

}  // namespace solvers
}  // namespace lplb
