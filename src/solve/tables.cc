// SPDX-License-Identifier: MIT
#include "solve/tables.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <numeric>

#include "core/made.h"

namespace lplb {

void SplitProblem::Tables::assign(const Placement& placement) {
  check_maps(placement, "placement");
  num_ranks = placement.num_ranks;
  num_logical = placement.num_logical_experts;
  num_physical = placement.num_physical();
  cost.assign(num_ranks, placement.rank_speed);
  live_ranks.clear();
  for (Index g = 0; g < num_ranks; ++g) {
    if (placement.alive(g)) live_ranks.push_back(g);
  }
  collect_places(placement);
  colour_experts();
  index_ranks();
  find_parts();
  static std::atomic<std::uint64_t> versions{0};
  version = ++versions;
}

void SplitProblem::Tables::collect_places(const Placement& placement) {
  fixed_rank.assign(static_cast<std::size_t>(num_logical), -1);
  fixed_carrier.assign(static_cast<std::size_t>(num_ranks), -1);
  fixed_slot.assign(static_cast<std::size_t>(num_logical), -1);
  shared.clear();
  shared.reserve(static_cast<std::size_t>(num_logical));  // another placement may have more of them
  slots.clear();
  expert.clear();
  place_begin.assign(1, 0);
  place.clear();

  for (Index e = 0; e < num_logical; ++e) {
    const std::size_t first = place.size();
    for (const Index slot : placement.replicas(e)) {  // ascending, so ranks are too
      const Index rank = placement.rank_of(slot);
      if (!placement.alive(rank)) continue;
      if (place.size() == first || place.back().rank != rank) {
        place.push_back({e, rank, static_cast<Index>(slots.size()), 0});
      }
      slots.push_back(slot);
      ++place.back().slot_count;
    }
    if (place.size() - first > 1) {
      expert.push_back(e);
      place_begin.push_back(static_cast<Index>(place.size()));
      continue;
    }
    const Place only = place.back();
    place.pop_back();
    fixed_rank[e] = only.rank;
    fixed_carrier[only.rank] = e;
    if (only.slot_count == 1) {
      fixed_slot[e] = slots.back();
      slots.pop_back();
    } else {
      shared.push_back(only);
    }
  }
}

/// Colours the experts greedily in the order of logical ids: each gets the smallest colour that is
/// free at all of its ranks. Then renumbers the experts by (colour, logical id).
void SplitProblem::Tables::colour_experts() {
  const Index count = num_replicated();
  const auto words = static_cast<std::size_t>(count / 64 + 1);
  used_.assign(words * static_cast<std::size_t>(num_ranks), 0);
  std::vector<Index>& chosen = old_colour_;
  chosen.resize(static_cast<std::size_t>(count));
  for (Index k = 0; k < count; ++k) {
    Index free = -1;
    for (std::size_t word = 0; free < 0; ++word) {
      std::uint64_t taken = 0;
      for (Index i = place_begin[k]; i < place_begin[k + 1]; ++i) {
        taken |= used_[words * place[i].rank + word];
      }
      if (~taken != 0) free = static_cast<Index>(64 * word) + std::countr_one(taken);
    }
    for (Index i = place_begin[k]; i < place_begin[k + 1]; ++i) {
      used_[words * place[i].rank + static_cast<std::size_t>(free / 64)] |= std::uint64_t{1}
                                                                            << (free % 64);
    }
    chosen[k] = free;
  }

  order_.resize(static_cast<std::size_t>(count));
  std::iota(order_.begin(), order_.end(), 0);
  std::sort(order_.begin(), order_.end(), [&](Index a, Index b) {
    return chosen[a] != chosen[b] ? chosen[a] < chosen[b] : a < b;
  });
  old_expert_ = expert;
  old_begin_ = place_begin;
  old_place_ = place;
  colour.resize(static_cast<std::size_t>(count));
  place.clear();
  for (Index k = 0; k < count; ++k) {
    const Index old = order_[k];
    colour[k] = chosen[old];
    expert[k] = old_expert_[old];
    place.insert(place.end(), old_place_.begin() + old_begin_[old],
                 old_place_.begin() + old_begin_[old + 1]);
    place_begin[k + 1] = static_cast<Index>(place.size());
  }
}

void SplitProblem::Tables::index_ranks() {
  incident_begin.assign(static_cast<std::size_t>(num_ranks) + 1, 0);
  for (const Place& p : place) ++incident_begin[p.rank + 1];
  std::partial_sum(incident_begin.begin(), incident_begin.end(), incident_begin.begin());
  incident.resize(place.size());
  place_owner.resize(place.size());
  order_.assign(incident_begin.begin(), incident_begin.end() - 1);
  for (Index k = 0; k < num_replicated(); ++k) {
    for (Index i = place_begin[k]; i < place_begin[k + 1]; ++i) {
      place_owner[i] = k;
      incident[order_[place[i].rank]++] = i;
    }
  }
}

/// Finds the parts by union-find, with the least rank as root (there are few ranks, so no union by
/// size), then by a counting sort by root.
void SplitProblem::Tables::find_parts() {
  root_.resize(static_cast<std::size_t>(num_ranks));
  std::iota(root_.begin(), root_.end(), 0);
  const auto root_of = [this](Index g) {
    while (root_[g] != g) g = root_[g] = root_[root_[g]];
    return g;
  };
  for (Index k = 0; k < num_replicated(); ++k) {
    for (Index i = place_begin[k] + 1; i < place_begin[k + 1]; ++i) {
      const Index a = root_of(place[i - 1].rank);
      const Index b = root_of(place[i].rank);
      root_[std::max(a, b)] = std::min(a, b);
    }
  }
  part_begin.reserve(static_cast<std::size_t>(num_ranks) + 1);
  part_begin.assign(1, 0);
  part_rank.resize(live_ranks.size());
  order_.assign(static_cast<std::size_t>(num_ranks), -1);  // root -> part, then the next free entry
  Index num_parts = 0;
  for (const Index g : live_ranks) {
    if (root_of(g) == g) {
      order_[g] = num_parts++;
      part_begin.push_back(0);
    }
    ++part_begin[order_[root_of(g)] + 1];
  }
  std::partial_sum(part_begin.begin(), part_begin.end(), part_begin.begin());
  for (const Index g : live_ranks) {
    if (root_[g] == g) order_[g] = part_begin[order_[g]];
  }
  for (const Index g : live_ranks) part_rank[order_[root_of(g)]++] = g;
}

SplitProblem::SplitProblem(const Placement& placement) : tables_(std::make_unique<Tables>()) {
  tables_->assign(placement);
}
SplitProblem::~SplitProblem() = default;
SplitProblem::SplitProblem(SplitProblem&&) noexcept = default;
SplitProblem& SplitProblem::operator=(SplitProblem&&) noexcept = default;

void SplitProblem::assign(const Placement& placement) { tables_->assign(placement); }
Index SplitProblem::num_ranks() const { return tables_->num_ranks; }
Index SplitProblem::num_logical() const { return tables_->num_logical; }
Index SplitProblem::num_physical() const { return tables_->num_physical; }

}  // namespace lplb
