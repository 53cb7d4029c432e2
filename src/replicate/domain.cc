// SPDX-License-Identifier: MIT
#include "replicate/domain.h"

#include <algorithm>
#include <numeric>

#include "core/extended.h"
#include "replicate/search_steps.h"

namespace lplb::replicas {

Domain::Domain(const Placement& placement, Index first_rank, Index num_ranks,
               const ReplicateOptions& options, const RankCost& cost)
    : tables_(placement, first_rank, num_ranks, options.dynamic_slots),
      cost_(cost),
      min_tokens_(options.min_tokens),
      filler_(tables_, cost),
      slot_bound_(tables_, cost) {
  if (!live()) return;
  reference_ = tables_.live_ranks[0];
  for (const Index rank : tables_.live_ranks) {
    if (cost.speed(rank) > cost.speed(reference_)) reference_ = rank;
  }
  PlacementOptions ranks;
  ranks.rank_alive.assign(tables_.alive.begin(), tables_.alive.end());
  if (!placement.rank_speed.empty()) {
    ranks.rank_speed.assign(placement.rank_speed.begin() + first_rank,
                            placement.rank_speed.begin() + first_rank + num_ranks);
  }
  // Slots of dead ranks take nothing, so any expert may be there.
  std::vector<Index> map = tables_.slot_expert;
  for (Index& e : map) e = std::max(e, 0);
  const Placement main = make_placement(num_ranks, tables_.num_experts(), map, ranks);
  const auto steps = static_cast<std::size_t>(num_ranks + tables_.num_slots());
  for (Attempt* attempt : {&best_, &trial_}) attempt->transfers.reserve(steps);
  if (tables_.replicated) main_.emplace(main);
  extended_ = extend_placement(main, options.dynamic_slots);
  extended_problem_.emplace(extended_);
  warm_up();
}

/// Lets the buffers grow to about the largest extended placement, in which each dynamic slot has
/// another expert.
void Domain::warm_up() {
  const DomainTables& t = tables_;
  std::vector<Index> other(static_cast<std::size_t>(t.num_ranks) * t.dynamic_slots, -1);
  for (std::size_t i = 0; i < other.size(); ++i) {
    if (t.alive[i / static_cast<std::size_t>(t.dynamic_slots)] == 0) continue;
    other[i] = static_cast<Index>(i % static_cast<std::size_t>(t.num_experts()));
  }
  solve_extended(other, std::vector<Load>(static_cast<std::size_t>(t.num_experts()), 0));
}

void Domain::begin(std::span<const Load> load) {
  const DomainTables& t = tables_;
  batch_.want.resize(t.expert.size());
  batch_.total = 0;
  for (std::size_t e = 0; e < t.expert.size(); ++e) {
    batch_.want[e] = load[t.expert[e]];
    batch_.total += batch_.want[e];
  }
  batch_.slot_tokens.assign(t.slot_expert.size(), 0);
  if (main_) {
    solve(*main_, batch_.want, split_, workspace_, kExactly);
    batch_.slot_tokens.assign(split_.physical_load.begin(), split_.physical_load.end());
  } else {
    for (std::size_t slot = 0; slot < t.slot_expert.size(); ++slot) {
      const Index e = t.slot_expert[slot];
      if (e >= 0) batch_.slot_tokens[slot] = batch_.want[e];
    }
  }
  batch_.rank_load.assign(static_cast<std::size_t>(t.num_ranks), 0);
  batch_.heaviest.resize(static_cast<std::size_t>(t.num_ranks));
  for (Index rank = 0; rank < t.num_ranks; ++rank) {
    const auto slot = batch_.slot_tokens.begin() + rank * t.main_slots;
    batch_.rank_load[rank] = std::accumulate(slot, slot + t.main_slots, Load{0});
    batch_.heaviest[rank] = t.heaviest_slot(rank, batch_.slot_tokens);
  }
}

void Domain::plan(Level start, Bound& bound) {
  const auto above = [this](Level a, Level b) { return cost_.compare(a, b) > 0; };
  filler_.start(batch_, best_);
  bool raised = false;
  if (above(best_.max, start) && !try_level(start)) {
    slot_bound_.raise(batch_, bound);
    raised = true;
    const bool higher = above(bound.level, start);
    const Level least = higher ? bound.level : start;
    if ((!higher || !try_level(least)) && !try_detours(least)) search(least);
  }
  take(best_);
  if (!above(max_, bound.level)) return;
  if (!raised) slot_bound_.raise(batch_, bound);
  if (copies_ > 0 && above(max_, bound.level)) split_exactly();
}

/// Fills for `level`, and keeps the attempt if it is the best so far. Returns whether it closed.
bool Domain::try_level(Level level, Index detour) {
  filler_.fill(batch_, level, min_tokens_, detour, trial_);
  const bool closed = trial_.closed;
  const int order = cost_.compare(trial_.max, best_.max);
  if (order < 0 || (order == 0 && trial_.copies < best_.copies)) std::swap(best_, trial_);
  return closed;
}

/// Fills for `level` with a detour in one step after another, until one closes.
bool Domain::try_detours(Level level) {
  const Index steps = std::min<Index>(kMaxDetours, tables_.num_ranks * tables_.dynamic_slots);
  for (Index step = 0; step < steps; ++step) {
    if (try_level(level, step)) return true;
  }
  return false;
}

/// Looks for the least level above `start`, which does not close, that does.
void Domain::search(Level start) {
  SearchInterval<Load> interval{cost_.capacity(reference_, start, batch_.total),
                                cost_.capacity(reference_, best_.max, batch_.total)};
  while (interval.goes_on()) interval.step(try_level({interval.middle(), reference_}));
  // The best attempt may not have closed. Some of its copies are in vain then.
  try_level(best_.max);
}

/// Makes an attempt the plan.
void Domain::take(const Attempt& attempt) {
  const DomainTables& t = tables_;
  const Index slots = t.main_slots + t.dynamic_slots;
  physical_.assign(static_cast<std::size_t>(slots) * t.num_ranks, 0);
  dynamic_expert_.assign(static_cast<std::size_t>(t.dynamic_slots) * t.num_ranks, -1);
  const auto main_slot = [&](Index slot) { return slot + t.rank_of(slot) * t.dynamic_slots; };
  for (Index rank = 0; rank < t.num_ranks; ++rank) {
    std::copy_n(batch_.slot_tokens.begin() + rank * t.main_slots, t.main_slots,
                physical_.begin() + rank * slots);
  }
  for (const Transfer& transfer : attempt.transfers) {
    const Index e = t.slot_expert[transfer.slot];
    const Index first = transfer.rank * t.dynamic_slots;
    Index target = -1;
    if (transfer.dynamic >= 0) {
      dynamic_expert_[first + transfer.dynamic] = e;
      target = transfer.rank * slots + t.main_slots + transfer.dynamic;
    } else {
      for (Index i = 0; i < t.main_slots && target < 0; ++i) {
        if (t.slot_expert[transfer.rank * t.main_slots + i] == e)
          target = transfer.rank * slots + i;
      }
      for (Index i = 0; i < t.dynamic_slots && target < 0; ++i) {
        if (dynamic_expert_[first + i] == e) target = transfer.rank * slots + t.main_slots + i;
      }
    }
    physical_[main_slot(transfer.slot)] -= transfer.tokens;
    physical_[target] += transfer.tokens;
  }
  max_ = attempt.max;
  copies_ = attempt.copies;
}

/// Splits `load` over the main slots and the copies in the dynamic slots, into split_. Returns
/// false if no rank is live.
bool Domain::solve_extended(std::span<const Index> dynamic_expert, std::span<const Load> load) {
  if (!extended_problem_) return false;
  fill_dynamic_slots(extended_, tables_.dynamic_slots, dynamic_expert);
  extended_problem_->assign(extended_);
  solve(*extended_problem_, load, split_, workspace_, kExactly);
  return true;
}

/// Splits the batch over main slots and copies. Takes the result if it is better, and drops copies
/// that take no token.
void Domain::split_exactly() {
  if (!solve_extended(dynamic_expert_, batch_.want)) return;
  const DomainTables& t = tables_;
  const Index slots = t.main_slots + t.dynamic_slots;
  const Level max{split_.max_level.tokens, split_.max_level.rank + t.first_rank};
  if (cost_.compare(max, max_) >= 0) return;

  std::vector<Load>& physical = split_.physical_load;
  for (Index i = 0; i < t.num_ranks * t.dynamic_slots; ++i) {
    const Index first = i / t.dynamic_slots * slots;
    Load& tokens = physical[first + t.main_slots + i % t.dynamic_slots];
    if (dynamic_expert_[i] < 0) {
      physical[first] += tokens;
      tokens = 0;
    } else if (tokens > 0 && tokens < min_tokens_) {
      return;
    }
  }
  for (Index rank = 0; rank < t.num_ranks; ++rank) {
    Index used = 0;  // slots in use come first
    for (Index i = 0; i < t.dynamic_slots; ++i) {
      Index& e = dynamic_expert_[rank * t.dynamic_slots + i];
      Load& tokens = physical[rank * slots + t.main_slots + i];
      if (e < 0) continue;
      if (tokens == 0) {
        e = -1;
        --copies_;
        continue;
      }
      std::swap(dynamic_expert_[rank * t.dynamic_slots + used], e);
      std::swap(physical[rank * slots + t.main_slots + used++], tokens);
    }
  }
  std::copy(physical.begin(), physical.end(), physical_.begin());
  max_ = max;
}

}  // namespace lplb::replicas
