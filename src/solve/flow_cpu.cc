// SPDX-License-Identifier: MIT
#include <algorithm>

#include "core/raise_to_fit.h"
#include "solve/solvers.h"

// The solver "flow": sweeps, then waves. This file is the simple one; the forms in solve/device do
// the same with threads.
//
// - The sweeps level one expert after another, and come close.
// - What is left above the bound is the excess of a preflow (Goldberg and Tarjan, J. ACM 35, 1988).
//   Labels are the exact distances to the ranks that have room. A search backwards from these ranks
//   makes them again for each wave (as in global relabelling, Cherkassky and Goldberg 1997).
// - A wave (Tarjan 1984) carries all excess at once, from the farthest ranks to the nearest.
// - If a rank above the bound cannot reach room, the ranks that it reaches are a cut. The bound
//   rises to what this cut proves, as in Dinkelbach's method. Then all ranks of the cut have a
//   little room, which waves would fill rank by rank. Instead, each rank draws tokens from those
//   that it was reached from, the farthest rank first.
//
// NOTE: nothing that happens in one level, of the search or of a wave, depends on the order in
// which it is done. So a block of threads does it in parallel, with the same result.
namespace lplb::solvers {
namespace {

constexpr int kMaxSweeps = 2;

class Flow {
 public:
  Flow(const Tables& tables, Buffers& buffers) : t_(tables), b_(buffers) {}

  void run(std::int64_t max_steps) {
    share_evenly(t_, b_);
    raise_to_first_bound();
    sweep();
    while (any_overloaded()) {
      if (max_steps >= 0 && b_.steps >= max_steps) {
        b_.status = SolveStatus::kBounded;
        return;
      }
      if (search()) {
        carry();
      } else {
        raise_to_closure();
        draw();
      }
      ++b_.steps;
    }
    b_.status = SolveStatus::kOptimal;
  }

 private:
  /// Sets the bound to the best of the proofs that need no search: each part, and each rank with
  /// its fixed load.
  void raise_to_first_bound() {
    std::fill(b_.in_proof.begin(), b_.in_proof.end(), 0);
    b_.bound = {0, t_.live_ranks[0]};
    Index best = -1;
    for (Index part = 0; part < t_.num_parts(); ++part) {
      Load load = 0;
      for (const Index g : t_.part(part)) load += b_.rank_load[g];
      const Level level = raise_to_fit(t_.cost, t_.part(part), load, b_.heap);
      if (best < 0 || t_.cost.compare(level, b_.bound) > 0) {
        b_.bound = level;
        best = part;
      }
    }
    Index alone = -1;
    for (const Index g : t_.live_ranks) {
      const Level level{b_.fixed_load[g], g};
      if (t_.cost.compare(level, b_.bound) > 0) {
        b_.bound = level;
        alone = g;
      }
    }
    if (alone >= 0) {
      b_.in_proof[alone] = 1;
    } else {
      for (const Index g : t_.part(best)) b_.in_proof[g] = 1;
    }
    update_capacity();
  }

  void update_capacity() {
    for (const Index g : t_.live_ranks) b_.capacity[g] = t_.cost.capacity(g, b_.bound, b_.total);
  }

  void sweep() {
    for (int i = 0; i < kMaxSweeps && any_overloaded(); ++i) {
      bool changed = false;
      for (Index k = 0; k < t_.num_replicated(); ++k) changed |= level_expert(t_, k, b_);
      if (!changed) return;
    }
  }

  Load excess(Index rank) const { return b_.rank_load[rank] - b_.capacity[rank]; }

  bool any_overloaded() const {
    return std::any_of(t_.live_ranks.begin(), t_.live_ranks.end(),
                       [this](Index g) { return excess(g) > 0; });
  }

  /// Labels the ranks with their distance to room, level after level. Returns true when all
  /// overloaded ranks are labelled, and false if some of them cannot reach room. `found` lists the
  /// ranks by level. An expert is met at the level of its nearest place. The first such place is
  /// its `target`: the tokens of its other places may go there.
  bool search() {
    b_.found.clear();
    b_.level_begin.assign(1, 0);
    std::fill(b_.target.begin(), b_.target.end(), -1);
    Index unlabelled = 0;
    for (const Index g : t_.live_ranks) {
      const Load over = excess(g);
      b_.label[g] = over < 0 ? 0 : -1;
      b_.room[g] = -over;
      if (over < 0) b_.found.push_back(g);
      unlabelled += over > 0;
    }
    for (Index level = 0; unlabelled > 0; ++level) {
      const auto begin = static_cast<std::size_t>(b_.level_begin.back());
      const std::size_t end = b_.found.size();
      if (begin == end) return false;
      b_.level_begin.push_back(static_cast<Index>(end));
      for (std::size_t i = begin; i < end; ++i) meet_experts(b_.found[i], level);
      for (std::size_t i = begin; i < end; ++i) unlabelled -= label_givers(b_.found[i], level);
    }
    b_.level_begin.push_back(static_cast<Index>(b_.found.size()));
    return true;
  }

  /// Sets the target of the experts that have a place on `rank`, which is of this level.
  void meet_experts(Index rank, Index level) {
    for (Index i = t_.incident_begin[rank]; i < t_.incident_begin[rank + 1]; ++i) {
      const Index to = t_.incident[i];
      Index& target = b_.target[t_.place_owner[to]];
      if (target < 0 || (b_.label[t_.place[target].rank] == level && to < target)) target = to;
    }
  }

  /// Labels the ranks that can give tokens to `rank`; returns how many of them are overloaded.
  Index label_givers(Index rank, Index level) {
    Index overloaded = 0;
    for (Index i = t_.incident_begin[rank]; i < t_.incident_begin[rank + 1]; ++i) {
      const Index k = t_.place_owner[t_.incident[i]];
      if (b_.target[k] != t_.incident[i]) continue;  // the target is another of its places
      for (Index from = t_.place_begin[k]; from < t_.place_begin[k + 1]; ++from) {
        const Index giver = t_.place[from].rank;
        if (b_.take[from] == 0 || b_.label[giver] >= 0) continue;
        b_.label[giver] = level + 1;
        b_.found.push_back(giver);
        overloaded += excess(giver) > 0;
      }
    }
    return overloaded;
  }

  /// The wave: every overloaded rank, the farthest first, gives its excess to the next level. If it
  /// must, it gives more than there is room for; the next wave carries that on.
  void carry() {
    for (auto level = static_cast<Index>(b_.level_begin.size()) - 2; level > 0; --level) {
      for (Index i = b_.level_begin[level]; i < b_.level_begin[level + 1]; ++i) {
        const Index g = b_.found[i];
        if (level == 1 && excess(g) > 0) give(g, level, true);
        if (excess(g) > 0) give(g, level, false);
      }
    }
  }

  /// NOTE: `room` is the room before the wave, the same for all givers.
  void give(Index rank, Index level, bool within_room) {
    Load left = excess(rank);
    for (Index i = t_.incident_begin[rank]; i < t_.incident_begin[rank + 1] && left > 0; ++i) {
      const Index from = t_.incident[i];
      const Index k = t_.place_owner[from];
      Index to = b_.target[k];
      if (to < 0 || b_.label[t_.place[to].rank] != level - 1) continue;
      // Without a limit, the target takes everything. Within room, each place of its level takes
      // some.
      const Index end = within_room ? t_.place_begin[k + 1] : to + 1;
      for (; to < end && left > 0; ++to) {
        const Index taker = t_.place[to].rank;
        if (b_.label[taker] != level - 1) continue;
        Load tokens = std::min(left, b_.take[from]);
        if (within_room) tokens = std::min(tokens, b_.room[taker]);
        move(from, to, tokens);
        left -= tokens;
      }
    }
  }

  /// Raises the bound to what the closure proves: the overloaded ranks that cannot reach room, and
  /// all ranks that they could give to, directly or through others. Nothing that these ranks carry
  /// could be elsewhere. `found` lists them by their distance from the overloaded ranks, which is
  /// their label.
  void raise_to_closure() {
    b_.found.clear();
    for (const Index g : t_.live_ranks) {
      const bool is_first = excess(g) > 0 && b_.label[g] < 0;
      b_.label[g] = is_first ? 0 : -1;
      if (is_first) b_.found.push_back(g);
    }
    b_.level_begin.assign(1, 0);
    for (Index level = 0; static_cast<std::size_t>(b_.level_begin.back()) < b_.found.size();
         ++level) {
      const auto begin = static_cast<std::size_t>(b_.level_begin.back());
      const std::size_t end = b_.found.size();
      b_.level_begin.push_back(static_cast<Index>(end));
      for (std::size_t i = begin; i < end; ++i) label_takers(b_.found[i], level);
    }
    std::fill(b_.in_proof.begin(), b_.in_proof.end(), 0);
    set_.clear();
    Load load = 0;
    for (const Index g : t_.live_ranks) {
      if (b_.label[g] < 0) continue;
      b_.in_proof[g] = 1;
      load += b_.rank_load[g];
      set_.push_back(g);
    }
    b_.bound = raise_to_fit(t_.cost, set_, load, b_.heap);
    update_capacity();
  }

  void label_takers(Index rank, Index level) {
    for (Index i = t_.incident_begin[rank]; i < t_.incident_begin[rank + 1]; ++i) {
      if (b_.take[t_.incident[i]] == 0) continue;
      const Index k = t_.place_owner[t_.incident[i]];
      for (Index to = t_.place_begin[k]; to < t_.place_begin[k + 1]; ++to) {
        const Index taker = t_.place[to].rank;
        if (b_.label[taker] >= 0) continue;
        b_.label[taker] = level + 1;
        b_.found.push_back(taker);
      }
    }
  }

  /// The ranks of the closure fill the room that the raised bound leaves them, the farthest first.
  /// They draw on the ranks of the level before, which then have more room themselves.
  void draw() {
    for (const Index g : b_.found) b_.room[g] = -excess(g);
    for (auto level = static_cast<Index>(b_.level_begin.size()) - 3; level >= 0; --level) {
      for (Index i = b_.level_begin[level]; i < b_.level_begin[level + 1]; ++i) {
        const Index g = b_.found[i];
        give_away(g, level + 1);
        b_.room[g] = -excess(g);
      }
    }
  }

  /// Gives tokens of `rank` to all places of `level`, within the room there. The room is the same
  /// for all givers.
  void give_away(Index rank, Index level) {
    for (Index i = t_.incident_begin[rank]; i < t_.incident_begin[rank + 1]; ++i) {
      const Index from = t_.incident[i];
      const Index k = t_.place_owner[from];
      for (Index to = t_.place_begin[k]; to < t_.place_begin[k + 1]; ++to) {
        const Index taker = t_.place[to].rank;
        if (b_.label[taker] != level) continue;
        move(from, to, std::min(b_.take[from], b_.room[taker]));
      }
    }
  }

  void move(Index from, Index to, Load tokens) {
    b_.take[from] -= tokens;
    b_.take[to] += tokens;
    b_.rank_load[t_.place[from].rank] -= tokens;
    b_.rank_load[t_.place[to].rank] += tokens;
  }

  const Tables& t_;
  Buffers& b_;
  std::vector<Index>& set_ = b_.rank_list;
};

}  // namespace

void solve_flow(const Tables& tables, const SolveOptions& options, Buffers& buffers) {
  Flow(tables, buffers).run(options.max_steps);
}

}  // namespace lplb::solvers
