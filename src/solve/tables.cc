// SPDX-License-Identifier: MIT
#include "solve/tables.h"

#include <algorithm>
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
}

void SplitProblem::Tables::collect_places(const Placement& placement) {
  fixed_rank.assign(static_cast<std::size_t>(num_logical), -1);
  fixed_slot.assign(static_cast<std::size_t>(num_logical), -1);
  shared.clear();
  shared.reserve(static_cast<std::size_t>(num_logical));  // other placements may have more of them
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
    if (only.slot_count == 1) {
      fixed_slot[e] = slots.back();
      slots.pop_back();
    } else {
      shared.push_back(only);
    }
  }
}

/// Greedy colouring in the order of logical ids: the smallest colour free at all of the expert's
/// ranks. Then renumbers the experts by (colour, logical id).
void SplitProblem::Tables::colour_experts() {
  const Index count = num_replicated();
  const auto words = static_cast<std::size_t>(count / 64 + 1);
  used_.assign(words * static_cast<std::size_t>(num_ranks), 0);
  colour_.resize(static_cast<std::size_t>(count));
  num_colours = 0;
  for (Index k = 0; k < count; ++k) {
    Index colour = -1;
    for (std::size_t word = 0; colour < 0; ++word) {
      std::uint64_t taken = 0;
      for (Index i = place_begin[k]; i < place_begin[k + 1]; ++i) {
        taken |= used_[words * place[i].rank + word];
      }
      if (~taken != 0) colour = static_cast<Index>(64 * word) + std::countr_one(taken);
    }
    for (Index i = place_begin[k]; i < place_begin[k + 1]; ++i) {
      used_[words * place[i].rank + static_cast<std::size_t>(colour / 64)] |= std::uint64_t{1}
                                                                              << (colour % 64);
    }
    colour_[k] = colour;
    num_colours = std::max(num_colours, colour + 1);
  }

  order_.resize(static_cast<std::size_t>(count));
  std::iota(order_.begin(), order_.end(), 0);
  std::sort(order_.begin(), order_.end(), [&](Index a, Index b) {
    return colour_[a] != colour_[b] ? colour_[a] < colour_[b] : a < b;
  });
  old_expert_ = expert;
  old_begin_ = place_begin;
  old_place_ = place;
  place.clear();
  for (Index k = 0; k < count; ++k) {
    const Index old = order_[k];
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
