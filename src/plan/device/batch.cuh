// SPDX-License-Identifier: MIT
#pragma once

#include "plan/device/plan.cuh"
#include "plan/device/report.cuh"

// The plan's kernel. docs/plan-kernel.md explains it: what goes in and out, the steps, and what the
// blocks wait for. Read the files of this folder in this order:
//
//   shared.cuh     what the parts share: arguments, header, shared memory
//   entries.cuh    a block's entries: reads, counts, numbers and maps them
//   rows.cuh       brings the counts together: totals of the blocks, rows of the ranks
//   solve.cuh      hands the counts to the solver, and solves
//   segments.cuh   this rank's tokens of each expert, divided by the split
//   plan.cuh       these parts, and the copies at the start
//   batch.cuh      (this file) the order of the steps
//   kernels.cuh    the kernels that run them: one for the cluster, or the second of three
namespace lplb::plan {

/// Reads what the batch is: the round of the exchange, the image, the entries if `with_entries`,
/// and what the previous batch left. `before_copies` is called after the round is known.
template <bool kExchange, bool kStale, bool kCost, bool kCopies = false, class Work>
__device__ __forceinline__ void read_batch(Plan& plan, exchange::PeerRound& round,
                                           bool with_entries, Work before_copies) {
  if constexpr (kExchange) {
    if (thread() == 0) plan.rows.verdict() = {};
    kStale ? round.resume() : round.begin();
  }
  before_copies();
  if constexpr (kStale) plan.rows.begin_previous();
  plan.begin(with_entries);
  plan.open_image<kCost, !kCopies>(!kExchange);
  if constexpr (kStale) {
    if (thread() == 0 && !plan.rows.has_previous()) plan.rows.note_no_previous();
    if constexpr (kExchange) plan.rows.take_previous_rows(round);
  }
}

/// Brings all counts together: wait_for_totals() until the `num_totals` totals of this rank are in
/// received(), and what the other ranks counted. `num_blocks` blocks do so. Needs all copies to be
/// complete. Ends in a barrier, or in a wait of every thread.
///
/// NOTE: with staleness, a batch pushes its counts for the next one only after all blocks have
/// gathered the previous round, because their totals come after that; so no rank gets two rounds
/// ahead (docs/design/0008).
template <bool kExchange, bool kStale, class Wait>
__device__ __forceinline__ void bring_counts(Plan& plan, exchange::PeerRound& round, int num_totals,
                                             int num_blocks, Wait wait_for_totals) {
  Rows& rows = plan.rows;
  if constexpr (!kExchange) {
    if (!kStale || rows.has_previous()) rows.add_ranks<kStale>();
    __syncthreads();
    wait_for_totals();
  } else if constexpr (kStale) {
    rows.send_verdict(num_blocks);
    wait_for_totals();
    round.advance();
    rows.push(round, num_totals);
    if (rows.has_previous()) rows.add_ranks<true>();
    __syncthreads();
  } else {
    wait_for_totals();
    rows.push(round, num_totals);
    rows.take_rows(round);
    __syncthreads();
    rows.send_verdict(num_blocks);
    rows.add_ranks<false>();
    __syncthreads();
  }
}

/// Ends the batch's round. One thread of one block calls it, after the verdict of all blocks is
/// known.
template <bool kStale>
__device__ inline void end_round(Plan& plan, const exchange::PeerRound& round) {
  if constexpr (kStale) {
    round.close();
    if (plan.rows.has_round()) round.count();
  } else {
    round.finish();
  }
}

/// Solves, and divides this rank's tokens into segments. In parallel with the solver, the other
/// warps make the sums that segments and map need, and one of their threads joins the verdicts of
/// the blocks. Ends in a barrier.
template <bool kCut, bool kExchange, bool kStale, bool kCost>
__device__ __forceinline__ void split_batch(Plan& plan, exchange::PeerRound& round, int num_totals,
                                            int num_blocks) {
  plan.solve.gather<kStale, kCost>(num_totals);
  plan.solve.run<kCut, kCost>([&](int worker, int num_workers) {
    if constexpr (!kStale) plan.segments.sum_ranks(worker, num_workers);
    plan.entries.number_warps(worker, num_workers);
    if (kExchange && num_blocks > 1 && worker == num_workers - 1) {
      plan.rows.join_verdicts(num_blocks);
    }
  });
  plan.segments.make<kStale>(plan.entries, [&] {
    if (kExchange && device::lane_id() == 0) end_round<kStale>(plan, round);
    report(plan.shared, plan.entries, num_totals);
  });
}

/// Keeps what later kernels and the next batch read. All threads of one block call it.
template <bool kStale>
__device__ __forceinline__ void keep_batch(Plan& plan) {
  keep_trace(plan.shared, plan.entries);
  if constexpr (kStale) plan.rows.keep_previous();
}

/// One batch in one cluster, which is the whole grid. All threads of all blocks call it. Every
/// block solves the same problem; with kExchange, every block also gathers the other ranks' counts
/// for itself. So blocks tell each other only two things: their totals and, while they solve, how
/// their rounds ended. kStale: the counts of all ranks are those of the previous batch. kCost: the
/// split is by what tokens cost.
template <bool kCut, bool kExchange, bool kStale, bool kCost>
__device__ __forceinline__ void plan_batch(const Args& args, void* memory) {
  const int num_blocks = static_cast<int>(gridDim.x);
  Shared shared(args, memory);
  Plan plan(shared);
  exchange::PeerRound round(args.peers, plan.rows.verdict(), block_id(), num_blocks);
  read_batch<kExchange, kStale, kCost>(plan, round, true, [&] {
    // Before another block can send.
    if (num_blocks == 1) return;
    plan.rows.open_mailboxes<kExchange>(num_blocks);
    device::arrive_at_cluster();
  });
  plan.entries.count();
  if (num_blocks > 1) device::wait_for_cluster();  // all blocks have started
  plan.rows.send_totals(num_blocks);
  bring_counts<kExchange, kStale>(plan, round, num_blocks, num_blocks,
                                  [&] { plan.rows.wait_for_totals(num_blocks); });
  split_batch<kCut, kExchange, kStale, kCost>(plan, round, num_blocks, num_blocks);
  plan.entries.map();
  if (block_id() == 0) keep_batch<kStale>(plan);
}

}  // namespace lplb::plan
