// SPDX-License-Identifier: MIT
#include "core/counter.cuh"
#include "solve/device/device_solver.h"
#include "solve/device/kept_shares.h"
#include "solve/device/solve_kernel.cuh"

namespace lplb::solvers {
namespace {

constexpr int kThreads = 256;

struct ShareArgs {
  const std::int32_t* load;      // [num_logical]
  const std::int32_t* physical;  // [num_physical]: what each physical expert takes
  const DeviceOutcome* outcome;
  const Index* original;  // [num_logical]
  const Index* combined;  // [num_shares, per_share]
  int num_logical;
  int num_shares;
  int per_share;
  KeptShares::Outputs out;
};

// Kernels.

__global__ void __launch_bounds__(kThreads) share_kernel(const ShareArgs a) {
  __shared__ int most;
  const int thread = static_cast<int>(threadIdx.x);
  const bool solved = a.outcome->status != kDeviceRefused;
  if (thread == 0) most = 1;
  __syncthreads();
  int mine = 1;
  for (int e = thread; e < a.num_logical; e += kThreads) mine = max(mine, a.load[e]);
  mine = __reduce_max_sync(~0u, mine);
  if (thread % kWarpSize == 0) atomicMax(&most, mine);
  for (int i = thread; i < a.num_shares; i += kThreads) {
    long long kept = 0;
    long long total = 0;
    for (int j = 0; j < a.per_share; ++j) {
      const Index e = a.combined[i * a.per_share + j];
      kept += a.physical[a.original[e]];
      total += a.load[e];
    }
    a.out.share[i] =
        solved && total > 0 ? __fdiv_rn(static_cast<float>(kept), static_cast<float>(total)) : 1.0f;
  }
  __syncthreads();
  for (int e = thread; e < a.num_logical; e += kThreads) {
    a.out.scaled[e] = __fdiv_rn(static_cast<float>(a.load[e]), static_cast<float>(most));
  }
  if (thread == 0 && solved && a.out.counter != nullptr) {
    device::add_to_counter(a.out.counter, a.out.counter_bytes, a.out.step);
  }
}

template <class T>
void copy(device::Array<T>& to, std::span<const T> from) {
  to.reserve(from.size());
  LPLB_CUDA_CHECK(cudaMemcpy(to.get(), from.data(), from.size_bytes(), cudaMemcpyHostToDevice));
}

}  // namespace

struct KeptShares::State {
  SplitProblem split;
  Solver solver;
  DeviceProblem problem;
  device::Array<std::int32_t> physical;
  device::Array<DeviceOutcome> outcome;
  device::Array<Index> original, combined;
  int num_shares, per_share;

  State(const Placement& placement, const OriginalTables& tables)
      : split(placement),
        solver(chosen_solver({}, placement.num_ranks)),
        num_shares(tables.num_shares),
        per_share(tables.num_shares == 0
                      ? 0
                      : static_cast<int>(tables.combined.size()) / tables.num_shares) {
    if (!split.tables().cost.uniform()) {
      throw ArgumentError("rank_speed", "differs between ranks");
    }
    device::Stream stream;
    problem.assign(split.tables(), stream.get());
    if (!problem.fits()) throw ArgumentError("placement", "does not fit into a block of threads");
    physical.reserve(placement.physical_to_logical.size());
    outcome.reserve(1);
    copy(original, tables.original);
    copy(combined, tables.combined);
  }
};

// Launchers.

KeptShares::KeptShares(const Placement& placement, const OriginalTables& tables) {
  device::require();
  state_ = std::make_unique<State>(placement, tables);
}
KeptShares::~KeptShares() = default;

void KeptShares::run(StreamHandle stream, const std::int32_t* load, const Outputs& outputs) const {
  const State& s = *state_;
  const auto on = static_cast<cudaStream_t>(stream);
  SolvePointers pointers;
  pointers.load = load;
  pointers.physical_load = s.physical.get();
  pointers.outcome = s.outcome.get();
  s.problem.launch(on, pointers, 1, s.solver, -1);
  share_kernel<<<1, kThreads, 0, on>>>({load, s.physical.get(), s.outcome.get(), s.original.get(),
                                        s.combined.get(), s.problem.header().num_logical,
                                        s.num_shares, s.per_share, outputs});
  LPLB_CUDA_CHECK(cudaGetLastError());
}

}  // namespace lplb::solvers
