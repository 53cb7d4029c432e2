// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "lplb/exchange.h"
#include "lplb/mapping.h"
#include "lplb/solver.h"
#include "lplb/types.h"

namespace lplb {

struct PlannerOptions {
  std::int64_t max_tokens = 0;  ///< the largest batch of one rank, in tokens, >= 1
  Index num_topk = 8;           ///< entries a token, >= 1
  SolveOptions solve = {};
  /// Replica slots that a later placement may have: num_physical - num_logical. 0: as many as the
  /// first placement. The same on every rank.
  Index max_redundants = 0;
  /// 0 or 1, the same on every rank. 1: a batch is split as its counts are exchanged for the next
  /// one. Each expert's tokens go to its replicas in proportion to the exact split of the batch
  /// before, low discrepancy (map_tokens_in_proportion()); the first batch, and the first with
  /// another PackedLayout, evenly (kUnplanned). No rank waits for one that is less than a batch
  /// behind. It costs balance: half of the gain or more on recorded loads (docs/exchange.md).
  Index staleness = 0;
};

/// What happened to one batch.
enum class BatchStatus {
  kOptimal,   ///< split proven optimal
  kBounded,   ///< solved, but the solver's step limit left a gap
  kDegraded,  ///< the exchange timed out: this rank divided its own tokens evenly
  /// With staleness, of a batch that has none before it to be split by: divided evenly likewise
  kUnplanned,
};

/// Counters since construction, and of the last batch that was solved; with staleness, of what the
/// split made of the counts that it is of.
struct PlannerStats {
  std::int64_t batches = 0;
  std::int64_t solved = 0;        ///< split by the solver
  std::int64_t optimal = 0;       ///< of these, proven optimal
  std::int64_t degraded = 0;      ///< divided evenly because a peer was late
  std::int64_t unplanned = 0;     ///< divided evenly because there was no batch to be split by
  std::int64_t out_of_range = 0;  ///< ids that were bad input, over all batches
  double last_imbalance = 1;      ///< max / mean rank load
  double last_lower_bound = 0;
};

/// The fast loop of one rank: count, exchange, solve, map. One planner (and one exchange) a layer
/// and batch in flight: planners share nothing. Not thread-safe. run() does not allocate.
class Planner {
 public:
  /// Allocates all that later batches need. Throws ArgumentError where rank, limits and placement
  /// do not fit, `exchange` is null or of another rank or number of ranks, or the named solver
  /// cannot take the placement.
  Planner(const Placement& placement, Index rank, const PlannerOptions& options,
          std::shared_ptr<Exchange> exchange);
  ~Planner();
  Planner(Planner&&) noexcept;
  Planner& operator=(Planner&&) noexcept;

  /// Plans one batch: `topk_idx` [num_tokens, num_topk] flat, 0 tokens is a batch too; writes
  /// `physical_idx` of the same length (may be the same memory): -1 stays -1, bad ids become -1.
  /// Every rank of the group calls it once a batch.
  ///
  /// A solved batch is solved alike on every rank, from the same counts: over the group each
  /// replica takes exactly its quota (with staleness, its share of this batch, off by less than one
  /// token a rank). Where the exchange times out (kDegraded) each rank divides its own tokens of an
  /// expert evenly over the live replicas. Whether all ranks then degrade together is the
  /// exchange's promise: those of InProcessGroup do. In any case every token reaches a live replica
  /// of its expert; only the balance is at stake.
  ///
  /// Throws ArgumentError where lengths do not fit: the rank has then not taken part in the batch,
  /// and the group waits until it calls again. Throws ExchangeError where the exchange does, or
  /// where it delivers counts that cannot be. Nothing is written then.
  BatchStatus run(std::span<const std::int32_t> topk_idx, std::span<std::int32_t> physical_idx);
  BatchStatus run(std::span<const std::int64_t> topk_idx, std::span<std::int64_t> physical_idx);

  /// From the next batch on. Same ranks and logical experts, replicas within the limits; nodes,
  /// speeds and dead ranks may change. Every rank does it between the same two batches. Reuses the
  /// planner's memory. Throws ArgumentError, with the planner as it was.
  void update_placement(const Placement& placement);

  const Placement& placement() const;
  const PlannerStats& stats() const;
  /// The split of the last solved batch (with staleness, of the counts that it was made from), for
  /// the whole group. Of the experts with one replica only the sum over each rank is exchanged:
  /// their entries of physical_load are right as a sum over a rank, not one by one. All else,
  /// replicated experts included, is as solve() gives it.
  const Split& last_split() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace lplb
