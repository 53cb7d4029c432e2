// SPDX-License-Identifier: MIT
#pragma once

#include "core/launch.cuh"
#include "plan/device/batch.cuh"

// The kernels that solve. launch.cu makes those of planners without staleness, launch_stale.cu
// those of planners with it, launch_cost.cu those of planners that split by costs,
// launch_copies.cu those of planners with dynamic slots, launch_domain_copies.cu the same in
// several domains.
namespace lplb::plan {

/// A batch in one kernel: one cluster of blocks.
template <bool kCut, bool kExchange, bool kStale, bool kCost>
__global__ void __launch_bounds__(kThreads, 1) plan_kernel(const __grid_constant__ Args args) {
  extern __shared__ uint4 memory[];
  plan_batch<kCut, kExchange, kStale, kCost>(args, memory);
}

/// Copies the totals of all blocks to received(), from where count_kernel() left them. Ends in a
/// barrier.
__device__ inline void fetch_totals(const Shared& shared, int num_blocks) {
  for (int block = 0; block < num_blocks; ++block) {
    const int* const totals = shared.a.block_totals + block * (shared.a.layout.max_columns + 1);
    for (int c = thread(); c <= shared.h.num_columns; c += kThreads) {
      shared.received(block)[c] = totals[c];
    }
  }
  __syncthreads();
}

/// The second of three kernels, in one block: exchanges, solves and makes the segments. It copies
/// the image and the rows, and adds up the rows, while count_kernel() runs.
template <bool kCut, bool kExchange, bool kStale, bool kCost>
__global__ void __launch_bounds__(kThreads, 1) solve_kernel(const __grid_constant__ Args args) {
  extern __shared__ uint4 memory[];
  device::let_next_kernel_start();
  Shared shared(args, memory);
  Plan plan(shared);
  exchange::PeerRound round(args.peers, plan.rows.verdict(), 0, 1);
  read_batch<kExchange, kStale, kCost>(plan, round, false, [] {});
  device::wait_for_copies();
  __syncthreads();
  bring_counts<kExchange, kStale>(plan, round, args.num_blocks, 1, [&] {
    device::wait_for_kernel();
    fetch_totals(plan.shared, args.num_blocks);
  });
  split_batch<kCut, kExchange, kStale, kCost>(plan, round, args.num_blocks, 1);
  // Hand the segments to map_kernel().
  for (int i = thread(); i < plan.shared.h.num_replicas; i += kThreads) {
    args.segments[i] = plan.shared.segments()[i];
  }
  keep_batch<kStale>(plan);
}

using Kernel = void (*)(Args);

/// The kernels by [1 if the solver is cut, else 0][1 if the exchange is in the kernel, else 0].
struct Kernels {
  Kernel plan[2][2];
  Kernel solve[2][2];
};

template <bool kStale, bool kCost>
constexpr Kernels make_kernels() {
  return {{{plan_kernel<false, false, kStale, kCost>, plan_kernel<false, true, kStale, kCost>},
           {plan_kernel<true, false, kStale, kCost>, plan_kernel<true, true, kStale, kCost>}},
          {{solve_kernel<false, false, kStale, kCost>, solve_kernel<false, true, kStale, kCost>},
           {solve_kernel<true, false, kStale, kCost>, solve_kernel<true, true, kStale, kCost>}}};
}

/// The kernels with staleness, those with costs, and those with dynamic slots, in one domain or
/// several, which have no `solve`.
const Kernels& stale_kernels();
const Kernels& cost_kernels();
const Kernels& copy_kernels();
const Kernels& domain_copy_kernels();

}  // namespace lplb::plan
