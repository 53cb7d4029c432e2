// SPDX-License-Identifier: MIT
#include "replicate/bound.h"

#include <algorithm>
#include <bit>
#include <cstdint>

#include "core/raise_to_fit.h"

namespace lplb::replicas {
namespace {

/// Grows with the tokens: 16 buckets for each power of two.
std::size_t bucket_of(Load tokens) {
  const auto width = static_cast<int>(std::bit_width(static_cast<std::uint64_t>(tokens)));
  if (width <= 4) return static_cast<std::size_t>(tokens);
  return static_cast<std::size_t>((width - 4) << 4) +
         static_cast<std::size_t>(tokens >> (width - 5));
}

}  // namespace

/// Leaves the `count` heaviest in front, in order; of equal ones the first. What follows them is
/// lost. Buckets leave few to be sorted, without a branch that depends on the tokens.
void SlotBound::order_heaviest(std::size_t count) {
  bucket_size_.assign(kBuckets, 0);
  std::size_t bucket = 0;
  for (const Heavy& one : heaviest_) {
    const std::size_t its = bucket_of(one.tokens);
    ++bucket_size_[its];
    bucket = std::max(bucket, its);
  }
  for (std::size_t taken = bucket_size_[bucket]; taken < count;) taken += bucket_size_[--bucket];
  std::size_t kept = 0;
  for (const Heavy one : heaviest_) {
    heaviest_[kept] = one;
    kept += bucket_of(one.tokens) >= bucket ? 1 : 0;
  }
  std::sort(heaviest_.begin(), heaviest_.begin() + static_cast<std::ptrdiff_t>(kept),
            [](Heavy a, Heavy b) {
              return a.tokens != b.tokens ? a.tokens > b.tokens : a.expert < b.expert;
            });
}

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
    heaviest_.push_back({batch.want[e], e});
    confined += batch.want[e];
  }
  const auto num_live = static_cast<Index>(order_.size());
  const std::size_t num_heaviest = heaviest_.size();
  const auto listed = std::min(num_heaviest, std::size_t{2} * t_.dynamic_slots * num_live + 8);
  order_heaviest(listed);

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
      if (outside_[heaviest_[i].expert] != 0) continue;
      fetched += heaviest_[i].tokens;
      --slots;
    }
    if (slots > 0 && listed < num_heaviest) {
      const Load last = heaviest_[listed - 1].tokens;
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
