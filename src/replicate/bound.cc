// SPDX-License-Identifier: MIT
#include "replicate/bound.h"

#include <algorithm>

#include "core/raise_to_fit.h"

namespace lplb::replicas {

void SlotBound::raise(const DomainBatch& batch, Bound& bound) {
  const auto by_load = [](const std::vector<Load>& load) {
    return [&load](Index a, Index b) { return load[a] != load[b] ? load[a] < load[b] : a < b; };
  };
  order_.clear();
  for (const Index rank : t_.live_ranks) order_.push_back(rank - t_.first_rank);
  std::sort(order_.begin(), order_.end(), by_load(batch.rank_load));

  outside_.resize(static_cast<std::size_t>(t_.num_experts()));
  heaviest_.clear();
  Load confined = 0;  // tokens that only ranks outside A can take without copies
  for (Index e = 0; e < t_.num_experts(); ++e) {
    outside_[e] = t_.confined[e] != 0 ? 0 : 1;
    if (outside_[e] != 0) continue;
    heaviest_.push_back(e);
    confined += batch.want[e];
  }
  const auto num_live = static_cast<Index>(order_.size());
  const auto listed = std::min(heaviest_.size(), std::size_t{2} * t_.dynamic_slots * num_live + 8);
  std::partial_sort(heaviest_.begin(), heaviest_.begin() + static_cast<std::ptrdiff_t>(listed),
                    heaviest_.end(), [&](Index a, Index b) {
                      return batch.want[a] != batch.want[b] ? batch.want[a] > batch.want[b] : a < b;
                    });

  rest_ = t_.live_ranks;
  for (Index size = 1; size < num_live; ++size) {
    const Index rank = order_[size - 1];  // joins A
    for (Index slot = rank * t_.main_slots; slot < (rank + 1) * t_.main_slots; ++slot) {
      const Index e = t_.slot_expert[slot];
      if (outside_[e] != 0) continue;
      outside_[e] = 1;
      confined -= batch.want[e];
    }
    rest_.erase(std::find(rest_.begin(), rest_.end(), t_.first_rank + rank));

    // The heaviest experts that A has to fetch. The experts that are not listed weigh no more than
    // the last one that is, and taking more than there are is allowed in a bound.
    Index slots = t_.dynamic_slots * size;
    Load fetched = 0;
    for (std::size_t i = 0; i < listed && slots > 0; ++i) {
      if (outside_[heaviest_[i]] != 0) continue;
      fetched += batch.want[heaviest_[i]];
      --slots;
    }
    if (slots > 0 && listed < heaviest_.size()) {
      const Load last = batch.want[heaviest_[listed - 1]];
      fetched = last > (confined - fetched) / slots ? confined : fetched + slots * last;
    }
    if (fetched >= confined) continue;
    const Level level = raise_to_fit(cost_, rest_, confined - fetched, heap_);
    if (cost_.compare(level, bound.level) > 0) {
      bound.level = level;
      bound.ranks = rest_;
    }
  }
}

}  // namespace lplb::replicas
