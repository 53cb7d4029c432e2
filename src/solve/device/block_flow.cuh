// SPDX-License-Identifier: MIT
#pragma once

#include "solve/device/mask_flow.cuh"

// flow_cpu.cc for a team of warps and any number of ranks, step by step with the same result. The
// simplest of the forms of flow: labels and sets are in shared memory. A thread owns the ranks and
// the experts whose number modulo the size of the team is its own.
namespace lplb::solvers {

/// Calls body(i) for the numbers below `count` that a thread of the team owns.
template <class Team, class Body>
__device__ void for_each(const Team& team, int count, Body body) {
#pragma unroll 1
  for (int i = team.thread(); i < count; i += team.num_threads()) body(i);
}
/// Calls body(rank) for the live ranks that it owns.
template <class Team, class Body>
__device__ void for_ranks(const BlockTables& t, const Team& team, Body body) {
  for_each(team, t.num_live, [&](int i) { body(static_cast<int>(t.live_rank[i])); });
}

/// The bound of BlockFlow if all ranks have the same speed. speed_bound.cuh has another one, for
/// unequal speeds. A bound raises itself, and marks in `proof` the ranks that prove it.
class EqualBound {
 public:
  __device__ int tokens() const { return bound_; }
  /// What a rank carries at the bound.
  __device__ int capacity(int) const { return bound_; }

  __device__ bool sweep(const BlockTables& t, const BlockState& s, const BlockTeam& team) const {
    return solvers::sweep(t, s, team);
  }

  /// Sets the bound to the greatest of each part's mean, rounded up, and each rank's fixed load.
  /// The proof is the first that gives it, parts before ranks.
  __device__ void raise_to_first(const BlockTables& t, const BlockState& s, const BlockTeam& team) {
    int* const part_load = s.room;
    for_each(team, t.num_parts, [&](int i) { part_load[i] = 0; });
    if (team.thread() == 0) {
      s.scalars->most = -1;
      s.scalars->first = 0x7FFFFFFF;
    }
    team.sync();
    for_ranks(t, team, [&](int g) { atomicAdd(&part_load[t.part_of[g]], s.rank_load[g]); });
    team.sync();
    int level = -1;
    int first = 0x7FFFFFFF;
    const auto offer = [&](int offered, int index) {
      first = offered > level ? index : first;
      level = max(level, offered);
    };
    for_each(team, t.num_parts,
             [&](int i) { offer(t.divide_up(part_load[i], t.part_size[i]), i); });
    for_ranks(t, team, [&](int g) { offer(s.fixed[g], kMaxRanks + g); });
    bound_ = team.max_of(level, s.scalars);
    first = team.min_of(level == bound_ ? first : 0x7FFFFFFF, s.scalars);
    for_ranks(t, team, [&](int g) {
      if (first == kMaxRanks + g || first == t.part_of[g]) add_bit(s.proof, g);
    });
  }

  /// Raises the bound to what the ranks with a label must carry.
  __device__ void raise_to_closure(const BlockTables& t, const BlockState& s,
                                   const BlockTeam& team) {
    for_ranks(t, team, [&](int g) {
      if (s.label[g] < 0) return;
      add_bit(s.proof, g);
      atomicAdd(&s.scalars->sum, s.rank_load[g]);
      atomicAdd(&s.scalars->count, 1);
    });
    team.sync();
    bound_ = t.divide_up(s.scalars->sum, s.scalars->count);
  }

 private:
  int bound_ = 0;
};

template <class Bound = EqualBound>
class BlockFlow {
 public:
  __device__ BlockFlow(const BlockTables& tables, const BlockState& state, const BlockTeam& team,
                       const Bound& bound = {})
      : t_(tables), s_(state), team_(team), bound_(bound) {}

  /// All threads of the team call it, after `want` and `fixed` are filled and synchronised. It
  /// takes at most `max_steps` >= 0 steps: a wave or a raised bound each.
  __device__ BlockOutcome run(int max_steps) {
    share_evenly(t_, s_, team_);
    clear_proof();
    bound_.raise_to_first(t_, s_, team_);
    for (int i = 0; i < kFlowSweeps && any_overloaded(); ++i) {
      if (!team_.any(bound_.sweep(t_, s_, team_))) break;
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
        draw(raise_to_closure());
      }
      ++steps;
    }
    return {bound_.tokens(), is_optimal ? bound_.tokens() : heaviest_load(), steps,
            is_optimal ? 1 : 0};
  }

 private:
  template <class Body>
  __device__ void for_each(int count, Body body) const {
    solvers::for_each(team_, count, body);
  }
  template <class Body>
  __device__ void for_ranks(Body body) const {
    solvers::for_ranks(t_, team_, body);
  }

  __device__ void clear_proof() {
    for_each(BlockState::words(t_.num_ranks), [&](int i) { s_.proof[i] = 0; });
  }

  __device__ bool any_overloaded() const {
    bool over = false;
    for_ranks([&](int g) { over |= s_.rank_load[g] > bound_.capacity(g); });
    return team_.any(over);
  }

  /// Labels the ranks of level 0, and clears the search. Returns false if no rank is overloaded.
  __device__ bool start_search() {
    bool over = false;
    for_ranks([&](int g) {
      const int room = bound_.capacity(g) - s_.rank_load[g];
      s_.room[g] = room;
      s_.label[g] = room > 0 ? 0 : -1;
      over |= room < 0;
    });
    for_each(t_.num_replicated, [&](int k) { s_.met[k] = -1; });
    for_each(2 * BlockState::words(t_.num_ranks), [&](int i) { s_.marks[i] = 0; });
    if (team_.thread() == 0) s_.scalars->grown_level = 0;
    return team_.any(over);
  }

  /// Flow::search(). Returns the last level, or 0 if an overloaded rank was not reached.
  __device__ int search() {
    const int words = BlockState::words(t_.num_ranks);
    for (int level = 0;; ++level) {
      unsigned* const marks = s_.marks + (level % 2) * words;
      unsigned* const next_marks = s_.marks + ((level + 1) % 2) * words;
      for_each(t_.num_replicated, [&](int k) {
        if (s_.met[k] < 0) meet(k, level, marks);
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
      for_each(words, [&](int i) { next_marks[i] = 0; });
      if (grew) atomicMax(&s_.scalars->grown_level, level + 1);
      if (!team_.any(pending)) return level + 1;
      if (s_.scalars->grown_level <= level) return 0;
    }
  }

  /// Meets expert k if it has a place on a rank of this level. The first such place becomes its
  /// target, and the ranks that can give to it are marked.
  __device__ void meet(int k, int level, unsigned* marks) {
    const int begin = t_.place_begin[k];
    const int end = t_.place_begin[k + 1];
    int target = begin;
    while (target < end && s_.label[t_.place_rank[target]] != level) ++target;
    if (target == end) return;
    s_.met[k] = level;
    s_.target[k] = target;
    for (int i = begin; i < end; ++i) {
      if (s_.take[i] > 0 && s_.label[t_.place_rank[i]] < 0) add_bit(marks, t_.place_rank[i]);
    }
  }

  /// Flow::carry(). Ends in a sync.
  __device__ void carry(int last_level) {
    for (int level = last_level; level > 0; --level) {
      for_ranks([&](int g) {
        if (s_.label[g] != level) return;
        const int most = bound_.capacity(g);
        int left = s_.rank_load[g] - most;
        if (left <= 0) return;
        if (level == 1) left = give(g, level, left, true);
        if (left > 0) left = give(g, level, left, false);
        s_.rank_load[g] = most + left;
      });
      team_.sync();
    }
  }

  /// Gives up to `left` tokens of `rank` to the level before. Returns what is left. NOTE: in this
  /// level, only this thread writes the takes of the rank's places, and nobody reads those that it
  /// gives to.
  __device__ int give(int rank, int level, int left, bool within_room) {
    const int end = t_.incident_begin[rank + 1];
    for (int i = t_.incident_begin[rank]; i < end && left > 0; ++i) {
      const int from = t_.incident[i];
      const int k = t_.incident_owner[i];
      if (s_.met[k] != level - 1) continue;
      int has = s_.take[from];
      const int last = within_room ? t_.place_begin[k + 1] : s_.target[k] + 1;
      for (int to = s_.target[k]; to < last && left > 0 && has > 0; ++to) {
        const int taker = t_.place_rank[to];
        if (s_.label[taker] != level - 1) continue;
        const int tokens = min(min(left, has), within_room ? s_.room[taker] : left);
        if (tokens == 0) continue;
        atomicAdd(&s_.take[to], tokens);
        atomicAdd(&s_.rank_load[taker], tokens);
        has -= tokens;
        left -= tokens;
      }
      s_.take[from] = has;
    }
    return left;
  }

  /// Flow::raise_to_closure(). Returns the last level of the closure. Ends in a sync.
  __device__ int raise_to_closure() {
    if (team_.thread() == 0) s_.scalars->sum = s_.scalars->count = 0;
    for_ranks([&](int g) { s_.label[g] = s_.room[g] < 0 && s_.label[g] < 0 ? 0 : -1; });
    for_each(2 * BlockState::words(t_.num_ranks), [&](int i) { s_.marks[i] = 0; });
    team_.sync();
    const int words = BlockState::words(t_.num_ranks);
    int level = 0;
    for (bool grew = true; grew; ++level) {
      unsigned* const marks = s_.marks + (level % 2) * words;
      unsigned* const next_marks = s_.marks + ((level + 1) % 2) * words;
      for_each(t_.num_replicated, [&](int k) { mark_takers(k, level, marks); });
      team_.sync();
      grew = false;
      for_ranks([&](int g) {
        if (s_.label[g] >= 0 || !has_bit(marks, g)) return;
        s_.label[g] = level + 1;
        grew = true;
      });
      for_each(words, [&](int i) { next_marks[i] = 0; });
      grew = team_.any(grew);
    }
    clear_proof();
    team_.sync();
    bound_.raise_to_closure(t_, s_, team_);
    for_ranks([&](int g) { s_.room[g] = bound_.capacity(g) - s_.rank_load[g]; });
    team_.sync();
    return level - 1;
  }

  /// Marks the ranks that expert k's places of this level could give to.
  __device__ void mark_takers(int k, int level, unsigned* marks) {
    const int begin = t_.place_begin[k];
    const int end = t_.place_begin[k + 1];
    bool gives = false;
    for (int i = begin; i < end && !gives; ++i) {
      gives = s_.take[i] > 0 && s_.label[t_.place_rank[i]] == level;
    }
    for (int i = begin; i < end && gives; ++i) {
      if (s_.label[t_.place_rank[i]] < 0) add_bit(marks, t_.place_rank[i]);
    }
  }

  /// Flow::draw(). Ends in a sync.
  __device__ void draw(int last_level) {
    for (int level = last_level - 1; level >= 0; --level) {
      for_ranks([&](int g) {
        if (s_.label[g] != level) return;
        s_.rank_load[g] -= give_away(g, level + 1);
        s_.room[g] = bound_.capacity(g) - s_.rank_load[g];
      });
      team_.sync();
    }
  }

  /// Flow::give_away(). Returns how many tokens it gave.
  __device__ int give_away(int rank, int level) {
    int given = 0;
    for (int i = t_.incident_begin[rank]; i < t_.incident_begin[rank + 1]; ++i) {
      const int from = t_.incident[i];
      const int k = t_.incident_owner[i];
      int has = s_.take[from];
      for (int to = t_.place_begin[k]; to < t_.place_begin[k + 1] && has > 0; ++to) {
        const int taker = t_.place_rank[to];
        if (s_.label[taker] != level) continue;
        const int tokens = min(has, s_.room[taker]);
        atomicAdd(&s_.take[to], tokens);
        atomicAdd(&s_.rank_load[taker], tokens);
        has -= tokens;
        given += tokens;
      }
      s_.take[from] = has;
    }
    return given;
  }

  __device__ int heaviest_load() {
    if (team_.thread() == 0) s_.scalars->most = -1;
    team_.sync();
    int most = 0;
    for_ranks([&](int g) { most = max(most, s_.rank_load[g]); });
    return team_.max_of(most, s_.scalars);
  }

  const BlockTables& t_;
  const BlockState& s_;
  const BlockTeam& team_;
  Bound bound_;
};

}  // namespace lplb::solvers
