// SPDX-License-Identifier: MIT
#include "core/no_cuda.h"
#include "solve/solvers.h"

// Stands in for solve_cuda.cu in a build without CUDA.
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

}  // namespace solvers
}  // namespace lplb
