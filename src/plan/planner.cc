// SPDX-License-Identifier: MIT
#include "lplb/planner.h"

#include <algorithm>
#include <utility>

#include "core/check.h"
#include "plan/planner_state.h"

namespace lplb {

/// The fast loop: count, exchange, solve, map.
template <class Id>
BatchStatus Planner::State::run(std::span<const Id> topk_idx, std::span<Id> physical_idx) {
  check_batch(topk_idx.size(), physical_idx.size());
  const CountStatus seen = count_tokens(topk_idx, counts);
  layout.pack(counts, mine);
  const BatchStatus status = copies                   ? plan_copies()
                             : options.staleness == 0 ? plan()
                                                      : plan_stale();
  token_map.apply(topk_idx, physical_idx);
  stats.out_of_range += seen.out_of_range;
  ++stats.batches;
  return status;
}

template <class Id>
void Planner::State::run_alone(std::span<const Id> topk_idx, std::span<Id> physical_idx) {
  check_batch(topk_idx.size(), physical_idx.size());
  count_tokens(topk_idx, counts);
  if (copies) copies->choose_none();
  divide_evenly(BatchStatus::kDegraded);
  token_map.apply(topk_idx, physical_idx);
}

bool Planner::State::exchange_counts() {
  if (exchange->all_gather(layout, mine, room_for_rows(mine.size())) != ExchangeStatus::kComplete) {
    return false;
  }
  spread_rows();
  sum_counts(mine);
  return true;
}

BatchStatus Planner::State::plan() {
  if (!exchange_counts()) return divide_evenly(BatchStatus::kDegraded);
  solve(problem, load, split, workspace, options.solve);
  token_map.assign_exactly(placement, group_counts(), split.physical_load.data(), rank);
  return record_solved();
}

/// plan() with dynamic slots: over main slots and copies.
BatchStatus Planner::State::plan_copies() {
  if (!exchange_counts()) {
    copies->choose_none();
    return divide_evenly(BatchStatus::kDegraded);
  }
  copies->choose(load, split);
  token_map.assign_exactly(copies->placement(), group_counts(), split.physical_load.data(), rank);
  stats.copies += copies->replication().copies;
  return record_solved();
}

/// plan() with staleness: splits the batch by the counts of the previous one.
/// NOTE: the previous counts are collected even if the layout has changed since, and before the
/// next ones are posted, because an exchange has room for only two batches.
BatchStatus Planner::State::plan_stale() {
  const bool has_previous = !posted.empty();
  const bool fits = has_previous && posted_fingerprint == layout.fingerprint;
  ExchangeStatus outcome = ExchangeStatus::kComplete;
  if (has_previous) {
    outcome = exchange->collect(room_for_rows(posted.size()));
    std::swap(previous, posted);
    posted.clear();
  }
  exchange->post(layout, mine);
  posted.assign(mine.begin(), mine.end());
  posted_fingerprint = layout.fingerprint;
  if (!fits) return divide_evenly(BatchStatus::kUnplanned);
  if (outcome != ExchangeStatus::kComplete) return divide_evenly(BatchStatus::kDegraded);
  spread_rows();
  sum_counts(previous);
  solve(problem, load, split, workspace, options.solve);
  token_map.divide_in_proportion(placement, counts.data(), split.physical_load.data(), rank);
  return record_solved();
}

BatchStatus Planner::State::divide_evenly(BatchStatus why) {
  token_map.divide_evenly(copies ? copies->main_slots() : placement, counts.data(), rank);
  ++(why == BatchStatus::kUnplanned ? stats.unplanned : stats.degraded);
  return why;
}

std::span<Load> Planner::State::room_for_rows(std::size_t size) {
  all.resize(size * static_cast<std::size_t>(placement.num_ranks));
  return std::span(all).first(size * static_cast<std::size_t>(exchange->num_ranks()));
}

void Planner::State::spread_rows() {
  if (exchange->num_ranks() == placement.num_ranks) return;
  const auto row = [&](Index g) { return all.begin() + g * mine.size(); };
  // NOTE: from the last rank on, because a member's row moves towards the end.
  for (Index g = placement.num_ranks - 1; g >= 0; --g) {
    const Index member = members_below[g];
    if (member == members_below[g + 1]) {
      std::fill(row(g), row(g + 1), 0);
    } else if (member != g) {
      std::copy(row(member), row(member + 1), row(g));
    }
  }
}

/// Sums the counts of all ranks into a load for each expert. If of a rank's experts with one
/// replica only the sum is known, it becomes the load of one of them (`carrier`), which makes no
/// difference to a split by tokens. Counts that come from other ranks are checked here, because the
/// map trusts them.
void Planner::State::sum_counts(std::span<const Load> own) {
  const std::size_t size = layout.size();
  Load sign = 0;
  Load total = 0;
  bool overflow = false;
  std::fill(sums.begin(), sums.end(), 0);
  for (std::size_t i = 0; i < all.size(); i += size) {
    for (std::size_t k = 0; k < size; ++k) {
      sign |= all[i + k];
      overflow |= __builtin_add_overflow(sums[k], all[i + k], &sums[k]);
    }
  }
  for (const Load sum : sums) overflow |= __builtin_add_overflow(total, sum, &total);
  bool sound = std::equal(own.begin(), own.end(), all.begin() + rank * size);

  if (singles() == Singles::kEach) {
    for (std::size_t e = 0; e < load.size(); ++e) load[e] = sums[layout.column[e]];
  } else {
    std::size_t k = 0;
    std::fill(load.begin(), load.end(), 0);
    for (const Index e : layout.replicated) load[e] = sums[k++];
    for (const Index e : carrier) {
      if (e >= 0) load[e] = sums[k];
      sound = sound && (e >= 0 || sums[k] == 0);
      ++k;
    }
  }
  if (sign < 0) throw ExchangeError("the counts of all ranks: one is negative");
  if (overflow) throw ExchangeError("the counts of all ranks: they sum past 2^63 - 1");
  if (!sound) {
    throw ExchangeError("the counts of all ranks: they are not of this placement");
  }
}

BatchStatus Planner::State::record_solved() {
  const bool optimal = split.status == SolveStatus::kOptimal;
  ++stats.solved;
  stats.optimal += optimal;
  stats.last_imbalance = imbalance(placement, split.rank_load);
  stats.last_lower_bound = split.lower_bound;
  stats.last_max_cost = split.cost.max_cost;
  stats.last_cost_lower_bound = split.cost.lower_bound;
  return optimal ? BatchStatus::kOptimal : BatchStatus::kBounded;
}

const plan::Copies& Planner::State::with_copies() const {
  check_argument(copies != nullptr, "dynamic_slots", "is 0, expected at least 1");
  return *copies;
}

void Planner::State::check_batch(std::size_t num_entries, std::size_t num_outputs) const {
  const auto num_topk = static_cast<std::size_t>(options.num_topk);
  check_argument(num_entries % num_topk == 0, "topk_idx",
                 "has {} entries, expected a multiple of num_topk ({})", num_entries, num_topk);
  check_argument(num_entries / num_topk <= static_cast<std::size_t>(options.max_tokens), "topk_idx",
                 "has {} tokens, expected at most max_tokens ({})", num_entries / num_topk,
                 options.max_tokens);
  check_argument(num_outputs == num_entries, "physical_idx",
                 "has {} entries, expected as many as topk_idx ({})", num_outputs, num_entries);
}

Planner::Planner(const Placement& placement, Index rank, const PlannerOptions& options,
                 std::shared_ptr<Exchange> exchange)
    : state_(std::make_unique<State>(placement, rank, options, std::move(exchange))) {}
Planner::~Planner() = default;
Planner::Planner(Planner&&) noexcept = default;
Planner& Planner::operator=(Planner&&) noexcept = default;

BatchStatus Planner::run(std::span<const std::int32_t> topk_idx,
                         std::span<std::int32_t> physical_idx) {
  return state_->run(topk_idx, physical_idx);
}

BatchStatus Planner::run(std::span<const std::int64_t> topk_idx,
                         std::span<std::int64_t> physical_idx) {
  return state_->run(topk_idx, physical_idx);
}

void Planner::run_alone(std::span<const std::int32_t> topk_idx,
                        std::span<std::int32_t> physical_idx) {
  state_->run_alone(topk_idx, physical_idx);
}

void Planner::run_alone(std::span<const std::int64_t> topk_idx,
                        std::span<std::int64_t> physical_idx) {
  state_->run_alone(topk_idx, physical_idx);
}

void Planner::update_placement(const Placement& placement) {
  state_->check_placement(placement);
  if (state_->copies) state_->copies->assign(placement);
  state_->take_placement(placement);
}

const Placement& Planner::placement() const { return state_->placement; }
const PlannerStats& Planner::stats() const { return state_->stats; }
const Split& Planner::last_split() const { return state_->split; }
std::span<const Load> Planner::last_counts() const { return state_->all; }

const Replication& Planner::last_copies() const { return state_->with_copies().replication(); }
std::span<const char> Planner::slot_is_new() const { return state_->with_copies().slot_is_new(); }

}  // namespace lplb
