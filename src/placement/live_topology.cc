// SPDX-License-Identifier: MIT
#include "placement/live_topology.h"

#include <algorithm>
#include <numeric>

namespace lplb::placement {

LiveTopologyLayer::LiveTopologyLayer(const LiveRanks& live, const Topology& topology,
                                     Index num_logical, Index slots, Index num_ranks)
    : live_(live),
      topology_(topology),
      num_logical_(num_logical),
      slots_(slots),
      speed_(live.speed),
      live_number_(static_cast<std::size_t>(num_ranks), -1),
      content_(live.ranks.size()),
      own_(live.ranks.size()) {
  speed_.resize(live.ranks.size(), 1.0);
  for (std::size_t i = 0; i < live.ranks.size(); ++i) {
    live_number_[live.ranks[i]] = static_cast<Index>(i);
  }
}

void LiveTopologyLayer::run(std::span<const double> load, std::span<Index> logical,
                            std::span<Index> ordinal, std::span<Index> count) {
  ordinal_ = ordinal;
  count_ = count;
  std::fill(count.begin(), count.end(), 0);
  for (std::vector<Index>& rank : content_) rank.clear();
  pack_originals(load);
  follow_edges();
  fill_by_heat(load);
  auto next = logical.begin();
  for (const std::vector<Index>& rank : content_) next = std::copy(rank.begin(), rank.end(), next);
}

void LiveTopologyLayer::put(std::size_t rank, Index expert) {
  ordinal_[rank * slots_ + content_[rank].size()] = count_[expert]++;
  content_[rank].push_back(expert);
}

bool LiveTopologyLayer::has(std::size_t rank, Index expert) const {
  const std::vector<Index>& experts = content_[rank];
  return std::find(experts.begin(), experts.end(), expert) != experts.end();
}

/// The load / speed of a rank if each expert's load is split evenly.
double LiveTopologyLayer::level(std::size_t rank, std::span<const double> load) const {
  double sum = 0;
  for (const Index e : content_[rank]) sum += load[e] / count_[e];
  return sum / speed_[rank];
}

/// The rank with room and without `expert` that has the least load / speed, or the number of ranks.
std::size_t LiveTopologyLayer::coolest_without(Index expert, std::span<const double> load) const {
  std::size_t best = content_.size();
  double least = 0;
  for (std::size_t rank = 0; rank < content_.size(); ++rank) {
    if (static_cast<Index>(content_[rank].size()) == slots_ || has(rank, expert)) continue;
    const double now = level(rank, load);
    if (best < content_.size() && now >= least) continue;
    best = rank;
    least = now;
  }
  return best;
}

void LiveTopologyLayer::pack_originals(std::span<const double> load) {
  // Items past the last expert have no load: they stand for slots that stay free.
  const auto num_ranks = static_cast<Index>(speed_.size());
  const Index capacity = (num_logical_ + num_ranks - 1) / num_ranks;
  const auto items = static_cast<std::size_t>(capacity) * speed_.size();
  std::vector<float> weight(items, 0);
  for (Index e = 0; e < num_logical_; ++e) weight[e] = static_cast<float>(load[e]);
  std::vector<Index> expert(items);
  std::iota(expert.begin(), expert.end(), 0);
  std::vector<Index> slot(items);
  packer_.run(weight, expert, speed_, false, slot);

  std::vector<std::vector<Index>> originals(speed_.size());
  for (Index e = 0; e < num_logical_; ++e) originals[slot[e] / capacity].push_back(e);
  for (std::size_t rank = 0; rank < originals.size(); ++rank) {
    std::stable_sort(originals[rank].begin(), originals[rank].end(),
                     [&](Index a, Index b) { return load[a] > load[b]; });
    for (const Index e : originals[rank]) put(rank, e);
    own_[rank] = static_cast<Index>(originals[rank].size());
  }
}

void LiveTopologyLayer::follow_edges() {
  for (std::size_t rank = 0; rank < content_.size(); ++rank) {
    const Index in_group = live_.ranks[rank] % topology_.group_size;
    const Index group = live_.ranks[rank] - in_group;
    for (Index d = 0; own_[rank] + d < slots_; ++d) {
      const Index original =
          live_number_[group + topology_.original(in_group, d % topology_.num_columns)];
      if (original >= 0 && d < own_[original]) put(rank, content_[original][d]);
    }
  }
}

void LiveTopologyLayer::fill_by_heat(std::span<const double> load) {
  const auto hotter = [&](Index a, Index b) { return load[a] / count_[a] > load[b] / count_[b]; };
  std::vector<Index> by_heat(load.size());
  std::iota(by_heat.begin(), by_heat.end(), 0);
  std::stable_sort(by_heat.begin(), by_heat.end(), hotter);
  std::size_t free = speed_.size() * static_cast<std::size_t>(slots_);
  for (const std::vector<Index>& rank : content_) free -= rank.size();
  for (; free > 0; --free) {
    // NOTE: one of the experts fits, because a rank with room has fewer experts than there are.
    auto hottest = by_heat.begin();
    std::size_t rank = coolest_without(*hottest, load);
    while (rank == content_.size()) rank = coolest_without(*++hottest, load);
    const Index expert = *hottest;
    put(rank, expert);
    by_heat.erase(hottest);
    by_heat.insert(std::upper_bound(by_heat.begin(), by_heat.end(), expert, hotter), expert);
  }
}

}  // namespace lplb::placement
