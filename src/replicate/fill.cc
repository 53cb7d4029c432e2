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

void Filler::fill(const DomainBatch& batch, Level level, Load min_tokens, Index detour,
                  Attempt& attempt) {
  const Index n = t_.num_ranks;
  const auto ranks = static_cast<std::size_t>(n);
  left_ = batch.slot_tokens;
  held_ = t_.held;
  capacity_.assign(ranks, 0);
  room_.assign(ranks, 0);
  free_.assign(ranks, 0);
  heaviest_.resize(ranks);
  heaviest_left_.assign(ranks, 0);
  attempt.transfers.clear();
  attempt.copies = 0;
  for (Index g = 0; g < n; ++g) {
    if (t_.alive[g] == 0) continue;
    capacity_[g] = cost_.capacity(t_.first_rank + g, level, batch.total);
    room_[g] = capacity_[g] - batch.rank_load[g];
    free_[g] = t_.dynamic_slots;
    heaviest_[g] = t_.heaviest_slot(g, left_);
    heaviest_left_[g] = left_[heaviest_[g]];
  }

  const auto roomiest = [&](Index except) {
    Index taker = -1;
    Load room = min_tokens - 1;
    for (Index g = 0; g < n; ++g) {
      if (free_[g] == 0 || room_[g] <= room || g == except) continue;
      room = room_[g];
      taker = g;
    }
    return taker;
  };
  for (Index step = 0; step < n + t_.num_slots(); ++step) {
    Index taker = roomiest(-1);
    if (step == detour && taker >= 0) taker = roomiest(taker);
    if (taker < 0) break;
    const Load room = room_[taker];

    Index filling = -1;  // the most overloaded rank whose heaviest expert fills the room
    Index giver = -1;    // the overloaded rank with the heaviest expert
    for (Index g = 0; g < n; ++g) {
      if (room_[g] >= 0) continue;
      if (heaviest_left_[g] >= room && (filling < 0 || room_[g] < room_[filling])) filling = g;
      if (giver < 0 || heaviest_left_[g] > heaviest_left_[giver]) giver = g;
    }
    if (filling >= 0) giver = filling;
    if (giver < 0 || heaviest_left_[giver] < min_tokens) break;

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
  }

  attempt.rank_load.resize(ranks);
  for (Index g = 0; g < n; ++g) attempt.rank_load[g] = capacity_[g] - room_[g];
  find_max(attempt);
  attempt.closed = std::none_of(room_.begin(), room_.end(), [](Load r) { return r < 0; });
}

}  // namespace lplb::replicas
