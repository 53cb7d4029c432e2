// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "lplb/exchange.h"
#include "lplb/export.h"
#include "lplb/mapping.h"
#include "lplb/replicate.h"
#include "lplb/solver.h"
#include "lplb/types.h"

namespace lplb {

struct PlannerOptions {
  std::int64_t max_tokens = 0;  ///< the largest batch of one rank, in tokens; >= 1
  Index num_topk = 8;           ///< entries of a token, >= 1
  SolveOptions solve = {};      ///< of it, solver, max_steps and what is for kIpm
  /// What tokens cost, the same on every rank. Batches are then split so that the largest cost of a
  /// rank is small, in place of the largest load, by kFastTime unless `solve` names another solver.
  /// One planner so serves prefill, where tokens count, and decode, where active experts do. The
  /// ranks exchange the counts of all experts: PackedLayout with Singles::kEach.
  std::optional<CostModel> cost = std::nullopt;
  /// How many redundant slots (num_physical - num_logical) a later placement may have, on all ranks
  /// together. 0: as many as the first placement. The same on every rank.
  Index max_redundants = 0;
  /// 0 or 1, the same on every rank. 1: a batch is split by the counts of the previous batch, so
  /// that it does not wait for its own exchange. This costs half of the gain or more: see
  /// docs/staleness.md.
  Index staleness = 0;
  /// S: 0 to kMaxDynamicSlots, the same on every rank. From 1 on, each batch has copies of experts
  /// in S dynamic slots a rank, as replicate() chooses them from the summed counts; then physical
  /// ids are rank * (M + S) + slot, with M main slots, those of the placement. The ranks exchange
  /// the counts of all experts: PackedLayout with Singles::kEach, num_logical integers a rank. It
  /// excludes `cost`, staleness and a named solver.
  ///
  /// Unless the exchange is an InProcessGroup, one rank may degrade alone: the others then send it
  /// tokens for copies that it does not fetch. docs/replicas.md says how that is found.
  Index dynamic_slots = 0;
  /// With dynamic_slots: how copies are chosen, the same on every rank. Of it not dynamic_slots.
  ReplicateOptions replicate = {};
};

/// What happened to one batch.
enum class BatchStatus {
  kOptimal,  ///< the split is proven optimal
  kBounded,  ///< solved, but the solver's limits left a gap
  /// Not solved: this rank divided its own tokens evenly over the replicas of the placement. It
  /// uses no dynamic slot.
  kDegraded,
  /// Only with staleness: there is no previous batch to split by, so this rank divided its own
  /// tokens evenly.
  kUnplanned,
};

/// Counters since construction, and figures of the last batch that was solved. With staleness,
/// these figures are for the counts from which the split was made: those of the previous batch.
struct PlannerStats {
  std::int64_t batches = 0;
  std::int64_t solved = 0;        ///< split by the solver
  std::int64_t optimal = 0;       ///< of these, proven optimal
  std::int64_t degraded = 0;      ///< divided evenly because a peer was late
  std::int64_t unplanned = 0;     ///< divided evenly because there was no previous batch
  std::int64_t out_of_range = 0;  ///< bad ids, over all batches
  std::int64_t copies = 0;        ///< with dynamic slots: of experts, over all batches and ranks
  double last_imbalance = 1;      ///< as imbalance() of the placement
  double last_lower_bound = 0;
  double last_max_cost = 0;  ///< with a cost, in its unit: the largest cost of a rank
  double last_cost_lower_bound = 0;
};

/// The fast loop of one rank on the CPU: count, exchange, solve, map. Use one planner, with an
/// exchange of its own, for each layer and batch in flight; planners share nothing. Not
/// thread-safe. run() does not allocate; with dynamic slots it may until it has seen a batch that
/// needs as much memory.
///
/// The group of the exchange has either a member for each rank of the placement, or one for each
/// live rank. In the second case, member i is the i-th live rank, and dead ranks never call: the
/// results are those of a group of all ranks whose dead ranks have no tokens. Ranks, physical ids
/// and loads are always numbered as in the placement.
class LPLB_API Planner {
 public:
  /// `rank`: this rank in the placement. Allocates all memory that later batches need. Throws
  /// ArgumentError if an option is out of range or does not fit `placement` and `rank`, `exchange`
  /// is null or has another rank or number of ranks, or the named solver cannot take the placement.
  Planner(const Placement& placement, Index rank, const PlannerOptions& options,
          std::shared_ptr<Exchange> exchange);
  ~Planner();
  Planner(Planner&&) noexcept;
  Planner& operator=(Planner&&) noexcept;

  /// Plans one batch. `topk_idx`: [num_tokens, num_topk], flat; num_tokens may be 0.
  /// `physical_idx`, of the same length, is written, and may be the same memory; -1 stays -1, and
  /// bad ids become -1. Every rank of the group must call it once for each batch.
  ///
  /// All ranks solve the same problem, from the same counts, so over the group each replica takes
  /// exactly its quota. (With staleness it takes its share of this batch, off by less than one
  /// token on each rank.) If the exchange times out, the batch is degraded: the rank divides its
  /// own tokens of an expert evenly over the live replicas. Whether all ranks then degrade together
  /// depends on the exchange; with InProcessGroup they do. In any case every token reaches a live
  /// replica of its expert. Only the balance is lost.
  ///
  /// If lengths do not fit, it throws ArgumentError. The rank has then not taken part in the batch,
  /// and the group waits until it calls again. It throws ExchangeError if the exchange does, or if
  /// the exchange delivers counts that are impossible. In all these cases nothing is written.
  BatchStatus run(std::span<const std::int32_t> topk_idx, std::span<std::int32_t> physical_idx);
  BatchStatus run(std::span<const std::int64_t> topk_idx, std::span<std::int64_t> physical_idx);

  /// Maps the last batch again, as a degraded one: this rank divides its own tokens evenly over the
  /// replicas of the placement, and no dynamic slot is in use. It is for a batch whose copies could
  /// not be fetched (WeightExchange::fetch()). Every rank of the group must do the same; nothing is
  /// exchanged. Arguments as in run(). stats() counts one more degraded batch.
  void run_alone(std::span<const std::int32_t> topk_idx, std::span<std::int32_t> physical_idx);
  void run_alone(std::span<const std::int64_t> topk_idx, std::span<std::int64_t> physical_idx);

  /// Puts another placement into force, from the next batch on. It must have the same ranks and
  /// logical experts, and at most max_redundants redundant slots; nodes, speeds and dead ranks may
  /// change. If the group has only the live ranks, these must stay the same: after another rank is
  /// lost, make a new group and new planners. Every rank must do this between the same two batches.
  /// Uses the planner's memory; with dynamic slots it allocates. Throws ArgumentError, with the
  /// planner as it was.
  void update_placement(const Placement& placement);

  const Placement& placement() const;
  const PlannerStats& stats() const;
  /// The split of the last solved batch, for the whole group. (With staleness it is a split of the
  /// previous batch.) It is as solve() gives it, with one difference. For experts with one replica,
  /// only the sum over a rank is exchanged, so their entries of physical_load are right only as
  /// sums over a rank. With dynamic slots it is that of last_copies(), and all entries are right.
  const Split& last_split() const;
  /// The counts of all ranks by which the last batch was split: [num_ranks, PackedLayout::size()],
  /// 0 for ranks that are not in the group. Unspecified unless that batch was solved, and after
  /// update_placement().
  std::span<const Load> last_counts() const;

  // Only with dynamic slots. Otherwise they throw ArgumentError.

  /// The copies of the last batch, the same on all ranks that solved it, and the split. slot_expert
  /// [num_ranks, S] says which experts' weights the slots must hold before their tokens are
  /// computed. If the batch was degraded, no slot is in use, and the rest is unspecified.
  const Replication& last_copies() const;
  /// [num_ranks, S]: 1 if the slot is in use and holds another expert than after the batches
  /// before, so that its weights must come. A slot keeps what it holds while it is not in use.
  /// After a degraded batch and update_placement() all slots count as empty.
  std::span<const char> slot_is_new() const;

 private:
  struct LPLB_HIDDEN State;
  std::unique_ptr<State> state_;
};

}  // namespace lplb
