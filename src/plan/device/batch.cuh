// SPDX-License-Identifier: MIT
#pragma once

#include "plan/device/block.cuh"
#include "plan/device/report.cuh"

// The plan's kernel. docs/plan-kernel.md explains it: what goes in and out, the steps, and what the
// blocks wait for. Read the files of this folder in this order:
//
//   entries.cuh   a block's entries: reads, counts, numbers and maps them
//   rows.cuh      brings the counts together: totals of the blocks, rows of the ranks
//   block.cuh     the steps between: image, solver, segments
//   batch.cuh     (this file) the order of the steps
//   kernels.cuh   the kernels that run them: one for the cluster, or the second of three
namespace lplb::plan {

/// The exchange in the kernel: pushes this rank's counts, and takes those of the other ranks. Needs
/// the totals of all blocks. Ends in a barrier.
__device__ inline void exchange_counts(Block& plan, exchange::PeerRound& round, int num_totals,
                                       int num_blocks) {
  plan.push(round, num_totals);
  plan.take_rows(round);
  __syncthreads();
  plan.send_verdict(num_blocks);
  plan.add_ranks<false>();
  __syncthreads();
}

/// With staleness: pushes this batch's counts for the next batch, and adds up what the ranks
/// counted in the previous batch. Ends in a barrier. NOTE: it needs the totals of all blocks. They
/// come from blocks that have gathered the previous round, so that no rank gets two rounds ahead
/// (docs/design/0008).
__device__ inline void push_stale(Block& plan, exchange::PeerRound& round, int num_totals) {
  round.advance();
  plan.push(round, num_totals);
  if (plan.has_previous()) plan.add_ranks<true>();
  __syncthreads();
}

/// Ends the batch's round. One thread of one block calls it, after the verdict of all blocks is
/// known.
template <bool kStale>
__device__ inline void end_round(Block& plan, const exchange::PeerRound& round) {
  if constexpr (kStale) {
    round.close();
    if (plan.has_round()) round.count();
  } else {
    round.finish();
  }
}

/// One batch in one cluster, which is the whole grid. All threads of all blocks call it. Every
/// block solves the same problem; with kExchange, every block also gathers the other ranks' counts
/// for itself. So blocks tell each other only two things: their totals and, while they solve, how
/// their rounds ended. kStale: the counts of all
/// ranks are those of the previous batch. kCost: the split is by what tokens cost.
template <bool kCut, bool kExchange, bool kStale, bool kCost>
__device__ __forceinline__ void plan_batch(const Args& args, void* memory) {
  const int num_blocks = static_cast<int>(gridDim.x);
  const int block = static_cast<int>(blockIdx.x);
  Block plan(args, memory);
  exchange::PeerRound round(args.peers, plan.verdict(), block, num_blocks);
  // Find the round, and open the mailboxes before another block can send.
  if constexpr (kExchange) {
    if (threadIdx.x == 0) plan.verdict() = {};
    kStale ? round.resume() : round.begin();
  }
  if (num_blocks > 1) {
    plan.open_mailboxes<kExchange>(num_blocks);
    device::arrive_at_cluster();
  }
  // Start the copies. With staleness, look at what the previous batch left.
  if constexpr (kStale) plan.begin_previous();
  plan.begin(true);
  plan.open_image<kCost>(!kExchange);
  if constexpr (kStale) {
    if (threadIdx.x == 0 && !plan.has_previous()) plan.note_no_previous();
    if constexpr (kExchange) plan.take_previous_rows(round);
  }
  // Count this block's entries, and bring all counts together.
  plan.count();
  if (num_blocks > 1) device::wait_for_cluster();  // all blocks have started
  plan.send_totals(num_blocks);
  if constexpr (kExchange && kStale) {
    plan.send_verdict(num_blocks);
    plan.wait_for_totals(num_blocks);
    push_stale(plan, round, num_blocks);
  } else if constexpr (kExchange) {
    plan.wait_for_totals(num_blocks);
    exchange_counts(plan, round, num_blocks, num_blocks);
  } else {
    if (!kStale || plan.has_previous()) plan.add_ranks<kStale>();
    __syncthreads();
    plan.wait_for_totals(num_blocks);
  }
  // Solve, divide this rank's tokens into segments, and map the entries.
  plan.gather<kStale, kCost>(num_blocks);
  plan.solve<kCut, kExchange, kStale, kCost>(num_blocks);
  plan.make_segments<kStale>([&] {
    if (kExchange && device::lane_id() == 0) end_round<kStale>(plan, round);
    plan.report(num_blocks);
  });
  plan.map();
  // Keep what later kernels and the next batch read.
  if (block == 0) plan.keep_trace();
  if (kStale && block == 0) plan.keep_previous();
}

}  // namespace lplb::plan
