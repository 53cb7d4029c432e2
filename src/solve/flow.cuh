// SPDX-License-Identifier: MIT
#pragma once

#include "solve/sweep.cuh"

// flow_cpu.cc for a team of threads, step by step with the same result. A thread owns ranks (those
// that are its number modulo the team's size) and lanes, likewise.
namespace lplb::solvers {

inline constexpr int kFlowSweeps = 8;

template <bool kOneWarp, bool kHeld>
class BlockFlow {
 public:
  __device__ BlockFlow(const BlockTables& tables, const BlockState& state,
                       const Team<kOneWarp>& team)
      : t_(tables), s_(state), team_(team), tiles_(tables, state, team) {}

  /// All threads of the team call it, with `want` and `fixed` filled and synchronised. At most
  /// `max_steps` >= 0 waves and raised bounds.
  __device__ BlockOutcome run(int max_steps) {
    tiles_.share_evenly();
    raise_to_first_bound();
    for (int i = 0; i < kFlowSweeps && any_overloaded(); ++i) {
      if (!team_.any(tiles_.sweep())) break;
    }
    int steps = 0;
    bool is_optimal = true;
    while (start_search()) {
      if (steps == max_steps) {
        is_optimal = false;
        break;
      }
      const int last_level = search();
      if (last_level > 0) {
        carry(last_level);
      } else {
        raise_to_closure();
      }
      ++steps;
    }
    return {bound_, is_optimal ? bound_ : heaviest_load(), steps, is_optimal ? 1 : 0};
  }

 private:
  /// Calls body(rank) for the live ranks that this thread owns.
  template <class Body>
  __device__ void for_ranks(Body body) const {
    for (int i = team_.thread(); i < t_.num_live; i += team_.num_threads()) {
      body(static_cast<int>(t_.live_rank[i]));
    }
  }

  /// Of each part the mean rounded up, of each rank its fixed load; the first of the greatest.
  __device__ void raise_to_first_bound() {
    int* const part_load = s_.room;
    for (int i = team_.thread(); i < t_.num_parts; i += team_.num_threads()) part_load[i] = 0;
    clear_proof();
    if (team_.thread() == 0) *s_.scalars = {-1, 0x7FFFFFFF, 0, 0, 0, {}};
    team_.sync();
    for_ranks([&](int g) { atomicAdd(&part_load[t_.part_of[g]], s_.rank_load[g]); });
    team_.sync();
    int level = -1;
    for (int i = team_.thread(); i < t_.num_parts; i += team_.num_threads()) {
      level = max(level, ceil_div(part_load[i], t_.part_size[i]));
    }
    for_ranks([&](int g) { level = max(level, s_.fixed[g]); });
    bound_ = team_max(team_, level, &s_.scalars->most);
    // Parts come before ranks alone.
    int first = 0x7FFFFFFF;
    for (int i = team_.thread(); i < t_.num_parts; i += team_.num_threads()) {
      if (ceil_div(part_load[i], t_.part_size[i]) == bound_) first = min(first, i);
    }
    for_ranks([&](int g) {
      if (s_.fixed[g] == bound_) first = min(first, kMaxRanks + g);
    });
    first = team_min(team_, first, &s_.scalars->first);
    for_ranks([&](int g) {
      if (first == kMaxRanks + g || first == t_.part_of[g]) add_bit(s_.proof, g);
    });
  }

  __device__ void clear_proof() {
    for (int i = team_.thread(); i < BlockState::words(t_.num_ranks); i += team_.num_threads()) {
      s_.proof[i] = 0;
    }
  }

  __device__ bool any_overloaded() const {
    bool over = false;
    for_ranks([&](int g) { over |= s_.rank_load[g] > bound_; });
    return team_.any(over);
  }

  /// Labels of level 0, an empty search. False where no rank is overloaded.
  __device__ bool start_search() {
    bool over = false;
    for_ranks([&](int g) {
      const int room = bound_ - s_.rank_load[g];
      s_.room[g] = room;
      s_.label[g] = room > 0 ? 0 : -1;
      over |= room < 0;
    });
    met_ = 0;
    tiles_.for_each([&](int slot, const DeviceLane& me, int span, int) {
      for (int i = 0; i < span; ++i) s_.arc[slot + i * kLanes] = -1;
      if (!kHeld && me.position == 0) s_.met[me.expert] = 0;
    });
    for (int i = team_.thread(); i < 2 * BlockState::words(t_.num_ranks);
         i += team_.num_threads()) {
      s_.marks[i] = 0;
    }
    if (team_.thread() == 0) s_.scalars->grown_level = 0;
    return team_.any(over);
  }

  /// Flow::search(): the last level, or 0 where an overloaded rank was not reached.
  __device__ int search() {
    const int words = BlockState::words(t_.num_ranks);
    for (int level = 0;; ++level) {
      unsigned* const marks = s_.marks + (level % 2) * words;
      unsigned* const next_marks = s_.marks + ((level + 1) % 2) * words;
      tiles_.for_each([&](int slot, const DeviceLane& me, int span, int c) {
        if constexpr (kHeld) {
          meet_held(slot, me, level, marks, c);
        } else {
          meet_any(slot, span, level, marks);
        }
      });
      team_.sync();
      bool pending = false;
      bool grew = false;
      for_ranks([&](int g) {
        if (s_.label[g] >= 0) return;
        if (has_bit(marks, g)) {
          s_.label[g] = level + 1;
          grew = true;
        } else {
          pending |= s_.room[g] < 0;
        }
      });
      for (int i = team_.thread(); i < words; i += team_.num_threads()) next_marks[i] = 0;
      if (grew) atomicMax(&s_.scalars->grown_level, level + 1);
      if (!team_.any(pending)) return level + 1;
      if (s_.scalars->grown_level <= level) return 0;
    }
  }

  /// The experts of a tile that are met at this level, and the ranks that can give to their target:
  /// the first lane whose rank is of this level.
  __device__ void meet_held(int slot, const DeviceLane& me, int level, unsigned* marks, int c) {
    const int label = is_place(me) ? s_.label[me.rank] : -1;
    const unsigned here = __ballot_sync(~0u, is_place(me) && label == level) &
                          group_mask(team_.lane(), group_width(me.count));
    if (here == 0 || (met_ >> c & 1) != 0) return;
    met_ |= 1u << c;
    if (!is_place(me) || label >= 0 || s_.take[slot] == 0) return;
    s_.arc[slot] = slot - team_.lane() + __ffs(here) - 1;
    add_bit(marks, me.rank);
  }

  /// The same for any span, with `met` in shared memory. Of several tiles the first target counts.
  __device__ void meet_any(int begin, int span, int level, unsigned* marks) {
    int target = -1;
    for (int i = 0; i < span && target < 0; ++i) {
      const DeviceLane me = t_.lanes[begin + i * kLanes];
      unsigned here = __ballot_sync(~0u, is_place(me) && s_.label[me.rank] == level);
      if (span == 1) here &= group_mask(team_.lane(), group_width(me.count));
      if (here != 0) target = begin - team_.lane() + i * kLanes + __ffs(here) - 1;
    }
    const DeviceLane first = t_.lanes[begin];
    const bool is_new = first.count != 0 && target >= 0 && s_.met[first.expert] == 0;
    __syncwarp();
    if (is_new && first.position == 0) s_.met[first.expert] = 1;
    for (int i = 0; i < span; ++i) {
      const int slot = begin + i * kLanes;
      const DeviceLane me = t_.lanes[slot];
      if (!is_new || !is_place(me) || s_.label[me.rank] >= 0 || s_.take[slot] == 0) continue;
      s_.arc[slot] = target;
      add_bit(marks, me.rank);
    }
  }

  /// Flow::carry(). Ends in a sync.
  __device__ void carry(int last_level) {
    for (int level = last_level; level > 0; --level) {
      for_ranks([&](int g) {
        if (s_.label[g] != level) return;
        int left = s_.rank_load[g] - bound_;
        if (left <= 0) return;
        if (level == 1) left = give(g, left, true);
        if (left > 0) left = give(g, left, false);
        s_.rank_load[g] = bound_ + left;
      });
      team_.sync();
    }
  }

  /// NOTE: only this thread writes the takes of the rank's lanes in this level, and those that it
  /// gives to are of ranks that nobody reads in it.
  __device__ int give(int rank, int left, bool within_room) {
    const int end = t_.incident_begin[rank + 1];
    for (int i = t_.incident_begin[rank]; i < end && left > 0; ++i) {
      const int from = t_.incident[i];
      const int to = s_.arc[from];
      if (to < 0) continue;
      const int taker = t_.lanes[to].rank;
      const int has = s_.take[from];
      int tokens = min(left, has);
      if (within_room) tokens = min(tokens, s_.room[taker]);
      if (tokens == 0) continue;
      s_.take[from] = has - tokens;
      atomicAdd(&s_.take[to], tokens);
      atomicAdd(&s_.rank_load[taker], tokens);
      left -= tokens;
    }
    return left;
  }

  /// Flow::raise_to_closure(). `proof` grows from the overloaded ranks without a label.
  __device__ void raise_to_closure() {
    clear_proof();
    if (team_.thread() == 0) s_.scalars->sum = s_.scalars->count = 0;
    team_.sync();
    for_ranks([&](int g) {
      if (s_.room[g] < 0 && s_.label[g] < 0) add_bit(s_.proof, g);
    });
    team_.sync();
    // NOTE: a round may see what it adds itself; that only shortens the way to the same closure.
    bool grew = true;
    while (grew) {
      grew = false;
      tiles_.for_each(
          [&](int slot, const DeviceLane&, int span, int) { grew |= add_takers(slot, span); });
      grew = team_.any(grew);
    }
    for_ranks([&](int g) {
      if (!has_bit(s_.proof, g)) return;
      atomicAdd(&s_.scalars->sum, s_.rank_load[g]);
      atomicAdd(&s_.scalars->count, 1);
    });
    team_.sync();
    bound_ = ceil_div(s_.scalars->sum, s_.scalars->count);
    team_.sync();
  }

  __device__ bool add_takers(int begin, int span) {
    bool gives = false;
    for (int i = 0; i < span && !gives; ++i) {
      const int slot = begin + i * kLanes;
      const DeviceLane me = t_.lanes[slot];
      unsigned givers = __ballot_sync(~0u, is_place(me) && s_.take[slot] > 0 && in_proof(me.rank));
      if (span == 1) givers &= group_mask(team_.lane(), group_width(me.count));
      gives = givers != 0;
    }
    bool grew = false;
    for (int i = 0; i < span; ++i) {
      const DeviceLane me = t_.lanes[begin + i * kLanes];
      if (!is_place(me) || !gives || in_proof(me.rank)) continue;
      add_bit(s_.proof, me.rank);
      grew = true;
    }
    return grew;
  }

  /// Reads a bit that others may be setting.
  __device__ bool in_proof(int rank) const {
    return (atomicOr(&s_.proof[rank / 32], 0u) >> (rank % 32) & 1) != 0;
  }

  __device__ int heaviest_load() {
    if (team_.thread() == 0) s_.scalars->most = -1;
    team_.sync();
    int most = 0;
    for_ranks([&](int g) { most = max(most, s_.rank_load[g]); });
    return team_max(team_, most, &s_.scalars->most);
  }

  const BlockTables& t_;
  const BlockState& s_;
  const Team<kOneWarp>& team_;
  const TeamTiles<kOneWarp, kHeld> tiles_;
  int bound_ = 0;
  unsigned met_ = 0;  // bit c: the search has met the expert of this lane in tile c
};

}  // namespace lplb::solvers
