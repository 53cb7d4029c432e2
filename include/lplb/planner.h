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
  std::int64_t max_tokens = 0;  ///< the largest batch of one rank, in tokens; memory is sized by it
  Index num_topk = 8;           ///< entries a token
  SolveOptions solve;
  /// Replica slots that a later placement may have (num_physical - num_logical and the most
  /// replicas of one expert); 0: as many as the first placement.
  Index max_redundants = 0;
};

/// What happened to one batch.
enum class BatchStatus {
  kOptimal,   ///< split proven optimal
  kBounded,   ///< solved, but the solver's step limit left a gap
  kDegraded,  ///< the exchange timed out: this rank divided its own tokens evenly
};

/// Counters since construction.
struct PlannerStats {
  std::int64_t batches = 0;
  std::int64_t solved = 0;        ///< split by the solver
  std::int64_t optimal = 0;       ///< of these, proven optimal
  std::int64_t degraded = 0;      ///< divided evenly because a peer was late
  std::int64_t out_of_range = 0;  ///< ids that were bad input, over all batches
  double last_imbalance = 1;      ///< max / mean rank load of the last solved batch
  double last_lower_bound = 0;
};

/// The fast loop of one rank: count, exchange, solve, map. One planner a layer and batch in flight:
/// planners share nothing. Not thread-safe; run() does not allocate after construction.
class Planner {
 public:
  /// Throws ArgumentError where rank, limits and placement do not fit, or `exchange` is of another
  /// number of ranks.
  Planner(const Placement& placement, Index rank, const PlannerOptions& options,
          std::shared_ptr<Exchange> exchange);
  ~Planner();
  Planner(Planner&&) noexcept;
  Planner& operator=(Planner&&) noexcept;

  /// Plans one batch: `topk_idx` [num_tokens, num_topk] flat, 0 tokens is a batch too; writes
  /// `physical_idx` of the same length: -1 stays -1, bad ids become -1. Every rank of the group
  /// calls it once a batch. Throws ArgumentError where lengths do not fit.
  BatchStatus run(std::span<const std::int32_t> topk_idx, std::span<std::int32_t> physical_idx);
  BatchStatus run(std::span<const std::int64_t> topk_idx, std::span<std::int64_t> physical_idx);

  /// From the next batch on. Same ranks and logical experts, replicas within the limits. Every rank
  /// does it between the same two batches. Does not reallocate.
  void update_placement(const Placement& placement);

  const Placement& placement() const;
  const PlannerStats& stats() const;
  /// The split of the last solved batch, for the whole group.
  const Split& last_split() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace lplb
