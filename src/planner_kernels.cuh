// SPDX-License-Identifier: MIT
#pragma once

#include "core/launch.cuh"
#include "planner_batch.cuh"

// The kernels that solve, made for planners without staleness and with it in a file each.
namespace lplb {

/// A batch in one kernel.
template <bool kCut, bool kExchange, bool kStale>
__global__ void __launch_bounds__(kPlanThreads, 1)
    plan_kernel(const __grid_constant__ PlanArgs args) {
  extern __shared__ uint4 memory[];
  plan_batch<kCut, kExchange, kStale>(args, memory);
}

/// Copies the totals of all blocks from where count_kernel() left them. Ends in a barrier.
__device__ inline void fetch_totals(PlanBlock& plan, const PlanArgs& args, int num_blocks) {
  for (int block = 0; block < num_blocks; ++block) {
    const int* const totals = args.block_totals + block * (args.layout.max_columns + 1);
    for (int c = threadIdx.x; c <= plan.header().num_columns; c += kPlanThreads) {
      plan.received(block)[c] = totals[c];
    }
  }
  __syncthreads();
}

/// The second of three kernels, one block: the segments.
template <bool kCut, bool kExchange, bool kStale>
__global__ void __launch_bounds__(kPlanThreads, 1)
    solve_kernel(const __grid_constant__ PlanArgs args) {
  extern __shared__ uint4 memory[];
  device::let_next_kernel_start();
  PlanBlock plan(args, memory);
  device::PeerRound round(args.peers, plan.verdict(), 0, 1);
  if constexpr (kExchange) {
    if (threadIdx.x == 0) plan.verdict() = {};
    kStale ? round.resume() : round.begin();
  }
  if constexpr (kStale) plan.begin_last();
  plan.begin(false);
  plan.open_image(!kExchange);
  if constexpr (kStale) {
    if (threadIdx.x == 0 && !plan.has_last()) plan.note_no_last();
    if constexpr (kExchange) plan.take_last_rows(round);
  }
  device::wait_for_copies();
  __syncthreads();
  if constexpr (!kExchange) {
    if (!kStale || plan.has_last()) plan.add_ranks<kStale>();
  }
  device::wait_for_kernel();
  fetch_totals(plan, args, args.num_blocks);
  if constexpr (kExchange && kStale) {
    plan.send_verdict(1);
    push_late(plan, round, args.num_blocks);
  } else if constexpr (kExchange) {
    exchange(plan, round, args.num_blocks, 1);
  }
  if (kExchange && threadIdx.x == 0) end_round<kStale>(plan, round);
  plan.gather<kStale>(args.num_blocks);
  plan.solve<kCut, kExchange, kStale>(1);
  plan.make_segments<kStale>([&] { plan.report(args.num_blocks); });
  for (int i = threadIdx.x; i < plan.header().num_replicas; i += kPlanThreads) {
    args.segments[i] = plan.segments()[i];
  }
  plan.keep_trace();
  if constexpr (kStale) plan.keep_last();
}

using PlanKernel = void (*)(PlanArgs);

/// By the solver, 1 where it is the cut, and whether the exchange is within the kernel.
struct PlanKernels {
  PlanKernel plan[2][2];
  PlanKernel solve[2][2];
};

template <bool kStale>
constexpr PlanKernels make_plan_kernels() {
  return {{{plan_kernel<false, false, kStale>, plan_kernel<false, true, kStale>},
           {plan_kernel<true, false, kStale>, plan_kernel<true, true, kStale>}},
          {{solve_kernel<false, false, kStale>, solve_kernel<false, true, kStale>},
           {solve_kernel<true, false, kStale>, solve_kernel<true, true, kStale>}}};
}

/// With staleness.
const PlanKernels& stale_plan_kernels();

}  // namespace lplb
