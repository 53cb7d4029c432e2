// SPDX-License-Identifier: MIT
#pragma once

#include "plan/device/block.cuh"
#include "plan/device/report.cuh"

namespace lplb::plan {

/// The exchange, where all totals are here; then what the other ranks counted. Ends in a barrier.
__device__ inline void exchange(Block& plan, exchange::PeerRound& round, int num_totals,
                                int num_blocks) {
  plan.push(round, num_totals);
  plan.take_rows(round);
  __syncthreads();
  plan.send_verdict(num_blocks);
  plan.add_ranks<false>();
  __syncthreads();
}

/// With staleness: this batch's counts go out for the next; then what the ranks counted of the one
/// before. NOTE: where all totals are here: they come from blocks that have gathered, so that
/// nobody is two rounds ahead (docs/design/0008). Ends in a barrier.
__device__ inline void push_stale(Block& plan, exchange::PeerRound& round, int num_totals) {
  round.advance();
  plan.push(round, num_totals);
  if (plan.has_previous()) plan.add_ranks<true>();
  __syncthreads();
}

/// Ends what a batch has to do with rounds, on one thread of one block, after solve().
template <bool kStale>
__device__ inline void end_round(Block& plan, const exchange::PeerRound& round) {
  if constexpr (kStale) {
    round.close();
    if (plan.has_round()) round.count();
  } else {
    round.finish();
  }
}

/// A block's part in all of a batch in one cluster, as large as the grid. Every block solves the
/// same problem, and with kExchange gathers the other ranks' counts for itself, so that between
/// blocks only totals cross, and, beside the solver, how their rounds ended. kStale: the counts of
/// all ranks are of the batch before.
template <bool kCut, bool kExchange, bool kStale>
__device__ __forceinline__ void plan_batch(const Args& args, void* memory) {
  const int num_blocks = static_cast<int>(gridDim.x);
  const int block = static_cast<int>(blockIdx.x);
  Block plan(args, memory);
  exchange::PeerRound round(args.peers, plan.verdict(), block, num_blocks);
  if constexpr (kExchange) {
    if (threadIdx.x == 0) plan.verdict() = {};
    kStale ? round.resume() : round.begin();
  }
  if (num_blocks > 1) {
    plan.open_mailboxes<kExchange>(num_blocks);
    device::arrive_at_cluster();
  }
  if constexpr (kStale) plan.begin_previous();
  plan.begin(true);
  plan.open_image(!kExchange);
  if constexpr (kStale) {
    if (threadIdx.x == 0 && !plan.has_previous()) plan.note_no_previous();
    if constexpr (kExchange) plan.take_previous_rows(round);
  }
  plan.count();
  if (num_blocks > 1) device::wait_for_cluster();  // all blocks have started
  plan.send_totals(num_blocks);
  if constexpr (kExchange && kStale) {
    plan.send_verdict(num_blocks);
    plan.wait_for_totals(num_blocks);
    push_stale(plan, round, num_blocks);
  } else if constexpr (kExchange) {
    plan.wait_for_totals(num_blocks);
    exchange(plan, round, num_blocks, num_blocks);
  } else {
    if (!kStale || plan.has_previous()) plan.add_ranks<kStale>();
    __syncthreads();
    plan.wait_for_totals(num_blocks);
  }
  plan.gather<kStale>(num_blocks);
  plan.solve<kCut, kExchange, kStale>(num_blocks);
  plan.make_segments<kStale>([&] {
    if (kExchange && device::lane_id() == 0) end_round<kStale>(plan, round);
    plan.report(num_blocks);
  });
  plan.map();
  if (block == 0) plan.keep_trace();
  if (kStale && block == 0) plan.keep_previous();
}

}  // namespace lplb::plan
