// SPDX-License-Identifier: MIT
#pragma once

#include "core/launch.cuh"
#include "plan/device/batch.cuh"

// The kernels that solve. launch.cu makes those of planners without staleness, launch_stale.cu
// those of planners with it, launch_cost.cu those of planners that split by costs.
namespace lplb::plan {

/// A batch in one kernel: one cluster of blocks.
template <bool kCut, bool kExchange, bool kStale, bool kCost>
__global__ void __launch_bounds__(kThreads, 1) plan_kernel(const __grid_constant__ Args args) {
  extern __shared__ uint4 memory[];
  plan_batch<kCut, kExchange, kStale, kCost>(args, memory);
}

/// Copies the totals of all blocks to received(), from where count_kernel() left them. Ends in a
/// barrier.
__device__ inline void fetch_totals(Block& plan, const Args& args, int num_blocks) {
  for (int block = 0; block < num_blocks; ++block) {
    const int* const totals = args.block_totals + block * (args.layout.max_columns + 1);
    for (int c = threadIdx.x; c <= plan.header().num_columns; c += kThreads) {
      plan.received(block)[c] = totals[c];
    }
  }
  __syncthreads();
}

/// The second of three kernels, in one block: exchanges, solves and makes the segments.
template <bool kCut, bool kExchange, bool kStale, bool kCost>
__global__ void __launch_bounds__(kThreads, 1) solve_kernel(const __grid_constant__ Args args) {
  extern __shared__ uint4 memory[];
  device::let_next_kernel_start();
  Block plan(args, memory);
  exchange::PeerRound round(args.peers, plan.verdict(), 0, 1);
  if constexpr (kExchange) {
    if (threadIdx.x == 0) plan.verdict() = {};
    kStale ? round.resume() : round.begin();
  }
  // Copy the image and the rows while count_kernel() runs; add the rows.
  if constexpr (kStale) plan.begin_previous();
  plan.begin(false);
  plan.open_image<kCost>(!kExchange);
  if constexpr (kStale) {
    if (threadIdx.x == 0 && !plan.has_previous()) plan.note_no_previous();
    if constexpr (kExchange) plan.take_previous_rows(round);
  }
  device::wait_for_copies();
  __syncthreads();
  if constexpr (!kExchange) {
    if (!kStale || plan.has_previous()) plan.add_ranks<kStale>();
  }
  // Bring all counts together.
  device::wait_for_kernel();
  fetch_totals(plan, args, args.num_blocks);
  if constexpr (kExchange && kStale) {
    plan.send_verdict(1);
    push_stale(plan, round, args.num_blocks);
  } else if constexpr (kExchange) {
    exchange_counts(plan, round, args.num_blocks, 1);
  }
  if (kExchange && threadIdx.x == 0) end_round<kStale>(plan, round);
  // Solve, and hand the segments to map_kernel().
  plan.gather<kStale, kCost>(args.num_blocks);
  plan.solve<kCut, kExchange, kStale, kCost>(1);
  plan.make_segments<kStale>([&] { plan.report(args.num_blocks); });
  for (int i = threadIdx.x; i < plan.header().num_replicas; i += kThreads) {
    args.segments[i] = plan.segments()[i];
  }
  plan.keep_trace();
  if constexpr (kStale) plan.keep_previous();
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

/// The kernels with staleness, and those with costs.
const Kernels& stale_kernels();
const Kernels& cost_kernels();

}  // namespace lplb::plan
