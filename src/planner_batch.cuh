// SPDX-License-Identifier: MIT
#pragma once

#include "planner_block.cuh"
#include "planner_report.cuh"

namespace lplb {

/// All blocks of the cluster are here, and see what the others wrote.
__device__ inline void meet(int num_blocks) {
  if (num_blocks == 1) {
    __syncthreads();
    return;
  }
  device::release_to_cluster();
  device::wait_for_cluster();
}

/// The exchange, where all totals are here; then what the other ranks counted. Ends in a barrier.
__device__ inline void exchange(PlanBlock& plan, device::PeerRound& round, int num_totals,
                                int num_blocks) {
  plan.exchange(round, num_totals, num_blocks);
  meet(num_blocks);  // all counts are here
  if (threadIdx.x == 0) plan.note_verdict(round.verdict());
  plan.add_ranks<false>();
  __syncthreads();
}

/// With staleness: the round of the batch before ends, and this one's counts, whose totals are
/// here, go out for the next. NOTE: in this order, so that nobody is two rounds ahead
/// (docs/design/0008). Ends in a barrier.
__device__ inline void exchange_late(PlanBlock& plan, device::PeerRound& round, int num_totals,
                                     int num_blocks) {
  meet(num_blocks);  // all that was taken is here
  if (threadIdx.x == 0) plan.end_last(round);
  round.advance();
  plan.push(round, num_totals);
  __syncwarp();
  if (plan.has_last()) plan.add_ranks<true>();
  __syncthreads();
}

/// A block's part in all of a batch in one cluster, as large as the grid. Every block solves the
/// same problem, so that only the counts cross between blocks: once; with kExchange, once more for
/// those of the other ranks. kStale: the counts of all ranks are of the batch before.
template <bool kCut, bool kExchange, bool kStale>
__device__ __forceinline__ void plan_batch(const PlanArgs& args, void* memory) {
  const int num_blocks = static_cast<int>(gridDim.x);
  const int block = static_cast<int>(blockIdx.x);
  PlanBlock plan(args, memory);
  device::PeerRound round(args.peers, plan.verdict(), block, num_blocks);
  if constexpr (kExchange) {
    if (threadIdx.x == 0) plan.verdict() = {};
    kStale ? round.resume() : round.begin();
  }
  if (num_blocks > 1) {
    plan.open_mailbox();
    if constexpr (kExchange) {
      device::release_to_cluster();  // the verdict too
    } else {
      device::arrive_at_cluster();
    }
  }
  plan.begin(true);
  plan.open_image(!kExchange);
  if constexpr (kStale) plan.open_last();
  plan.count();
  if (num_blocks > 1) device::wait_for_cluster();  // all blocks have started
  plan.send_totals(num_blocks);
  if constexpr (kExchange && kStale) {
    plan.take_last_rows(round, num_blocks);
    plan.wait_for_totals(num_blocks);
    exchange_late(plan, round, num_blocks, num_blocks);
  } else if constexpr (kExchange) {
    plan.wait_for_totals(num_blocks);
    exchange(plan, round, num_blocks, num_blocks);
  } else {
    if (!kStale || plan.has_last()) plan.add_ranks<kStale>();
    __syncthreads();
    plan.wait_for_totals(num_blocks);
  }
  plan.gather<kStale>(num_blocks);
  plan.solve<kCut, kStale>();
  plan.make_segments<kStale>([&] {
    if (kExchange && device::lane_id() == 0) kStale ? round.close() : round.finish();
    plan.report(num_blocks);
  });
  plan.map();
  if (block == 0) plan.keep_trace();
  if (kStale && block == 0) plan.keep_last();
}

}  // namespace lplb
