// SPDX-License-Identifier: MIT
#include "replicate/fill.h"

#include <algorithm>

namespace lplb::replicas {

void Filler::find_max(Attempt& attempt) const {
  attempt.max = {0, t_.live_ranks[0]};
  for (const Index rank : t_.live_ranks) {
    const Level level{attempt.rank_load[rank - t_.first_rank], rank};
    if (cost_.compare(level, attempt.max) > 0) attempt.max = level;
  }
}

void Filler::start(const DomainBatch& batch, Attempt& attempt) const {
  attempt.transfers.clear();
  attempt.copies = 0;
  attempt.closed = false;
  attempt.rank_load = batch.rank_load;
  find_max(attempt);
}

void Filler::begin(const DomainBatch& batch, Level level, Load min_tokens) {
  const auto ranks = static_cast<std::size_t>(t_.num_ranks);
  left_ = batch.slot_tokens;
  held_ = t_.held;
  heaviest_ = batch.heaviest;
  capacity_.assign(ranks, 0);
  room_.assign(ranks, 0);
  free_.assign(ranks, 0);
  heaviest_left_.assign(ranks, 0);
  takers_.clear();
  givers_.clear();
  for (Index g = 0; g < t_.num_ranks; ++g) {
    if (t_.alive[g] == 0) continue;
    capacity_[g] = cost_.capacity(t_.first_rank + g, level, batch.total);
    room_[g] = capacity_[g] - batch.rank_load[g];
    free_[g] = t_.dynamic_slots;
    heaviest_left_[g] = left_[heaviest_[g]];
    if (room_[g] < 0) {
      givers_.push_back(g);
    } else if (room_[g] >= min_tokens) {
      takers_.push_back(g);
    }
  }
}

Index Filler::roomiest(Index except) const {
  Index taker = -1;
  for (const Index g : takers_) {
    if (g == except) continue;
    if (taker < 0 || room_[g] > room_[taker] || (room_[g] == room_[taker] && g < taker)) taker = g;
  }
  return taker;
}

Index Filler::giver_for(Load room) const {
  Index filling = -1;  // the most overloaded rank whose heaviest expert fills the room
  Index giver = -1;    // the overloaded rank with the heaviest expert
  const auto goes_before = [](Load value, Load best, Index g, Index other) {
    return value > best || (value == best && g < other);
  };
  for (const Index g : givers_) {
    const Load heaviest = heaviest_left_[g];
    if (heaviest >= room && (filling < 0 || goes_before(-room_[g], -room_[filling], g, filling))) {
      filling = g;
    }
    if (giver < 0 || goes_before(heaviest, heaviest_left_[giver], g, giver)) giver = g;
  }
  return filling >= 0 ? filling : giver;
}

void Filler::fill(const DomainBatch& batch, Level level, Load min_tokens, Index detour,
                  Attempt& attempt) {
  const auto remove = [](std::vector<Index>& ranks, Index g) {
    *std::find(ranks.begin(), ranks.end(), g) = ranks.back();
    ranks.pop_back();
  };
  begin(batch, level, min_tokens);
  attempt.transfers.clear();
  attempt.copies = 0;
  for (Index step = 0; step < t_.num_ranks + t_.num_slots(); ++step) {
    Index taker = roomiest(-1);
    if (step == detour && taker >= 0) taker = roomiest(taker);
    if (taker < 0 || givers_.empty()) break;
    const Load room = room_[taker];
    const Index giver = giver_for(room);
    if (heaviest_left_[giver] < min_tokens) break;

    const Index slot = heaviest_[giver];
    const Index e = t_.slot_expert[slot];
    const Load tokens = std::min(room, left_[slot]);
    std::uint64_t& held = held_[static_cast<std::size_t>(t_.words) * taker + e / 64];
    const std::uint64_t bit = std::uint64_t{1} << (e % 64);
    Index dynamic = -1;
    if ((held & bit) == 0) {
      held |= bit;
      dynamic = t_.dynamic_slots - free_[taker]--;
      ++attempt.copies;
    }
    attempt.transfers.push_back({slot, taker, dynamic, tokens});
    left_[slot] -= tokens;
    room_[giver] += tokens;
    room_[taker] -= tokens;
    heaviest_[giver] = t_.heaviest_slot(giver, left_);
    heaviest_left_[giver] = left_[heaviest_[giver]];
    if (free_[taker] == 0 || room_[taker] < min_tokens) remove(takers_, taker);
    if (room_[giver] < 0) continue;
    remove(givers_, giver);
    if (free_[giver] > 0 && room_[giver] >= min_tokens) takers_.push_back(giver);
  }

  attempt.rank_load.resize(room_.size());
  for (std::size_t g = 0; g < room_.size(); ++g) attempt.rank_load[g] = capacity_[g] - room_[g];
  find_max(attempt);
  attempt.closed = givers_.empty();
}

}  // namespace lplb::replicas
