// SPDX-License-Identifier: MIT
#include <algorithm>
#include <bit>

#include "solve/solvers.h"

// Sweeps, then augmenting paths. The sweeps level one expert after another and come close; from
// there the shortest paths of Edmonds and Karp (J. ACM 19, 1972) carry tokens from ranks above the
// bound to ranks below it. Where no path is left, the ranks that were reached are a cut: the bound
// rises to what that cut proves, as in Dinkelbach's method, and the search goes on.
namespace lplb::solvers {
namespace {

constexpr int kMaxSweeps = 8;

/// Calls body(rank) for each rank in a bit set, ascending, until it returns false.
template <class Body>
void for_each_rank(const std::vector<std::uint64_t>& set, Body body) {
  for (std::size_t word = 0; word < set.size(); ++word) {
    for (std::uint64_t bits = set[word]; bits != 0; bits &= bits - 1) {
      if (!body(static_cast<Index>(64 * word) + std::countr_zero(bits))) return;
    }
  }
}

bool contains(const std::vector<std::uint64_t>& set, Index rank) {
  return (set[static_cast<std::size_t>(rank) / 64] >> (rank % 64) & 1) != 0;
}

void insert(std::vector<std::uint64_t>& set, Index rank) {
  set[static_cast<std::size_t>(rank) / 64] |= std::uint64_t{1} << (rank % 64);
}

class Flow {
 public:
  Flow(const Tables& tables, Buffers& buffers) : t_(tables), b_(buffers) {}

  void run(std::int64_t max_steps) {
    start_at_first_place();
    raise_to_trivial_bound();
    sweep();
    const auto may_step = [&] { return max_steps < 0 || b_.steps < max_steps; };
    while (find_overloaded()) {
      if (!may_step()) {
        b_.status = SolveStatus::kBounded;
        return;
      }
      if (search()) {
        // The first path carries tokens; the others what it leaves on the edges they share.
        for_each_rank(b_.next_frontier, [&](Index g) {
          if (has_room(g) && augment(g)) ++b_.steps;
          return may_step();
        });
      } else {
        raise_to_reached_set();
        ++b_.steps;
      }
    }
    b_.status = SolveStatus::kOptimal;
  }

 private:
  void start_at_first_place() {
    b_.rank_load = b_.fixed_load;
    std::fill(b_.take.begin(), b_.take.end(), 0);
    for (Index k = 0; k < t_.num_replicated(); ++k) {
      const Index i = t_.place_begin[k];
      b_.take[i] = b_.want[k];
      b_.rank_load[t_.place[i].rank] += b_.want[k];
    }
  }

  /// The better of two proofs that need no search: all ranks together, and the rank with most
  /// fixed load alone.
  void raise_to_trivial_bound() {
    b_.bound = raise_to_fit(t_.cost, t_.live_ranks, b_.total, b_.heap);
    Level alone{0, t_.live_ranks[0]};
    for (const Index g : t_.live_ranks) {
      const Level level{b_.fixed_load[g], g};
      if (t_.cost.compare(level, alone) > 0) alone = level;
    }
    std::fill(b_.in_proof.begin(), b_.in_proof.end(), 0);
    if (t_.cost.compare(alone, b_.bound) > 0) {
      b_.bound = alone;
      b_.in_proof[alone.rank] = 1;
    } else {
      for (const Index g : t_.live_ranks) b_.in_proof[g] = 1;
    }
    update_capacity();
  }

  void update_capacity() {
    for (const Index g : t_.live_ranks) b_.capacity[g] = t_.cost.capacity(g, b_.bound, b_.total);
  }

  void sweep() {
    for (int i = 0; i < kMaxSweeps; ++i) {
      bool changed = false;
      for (Index k = 0; k < t_.num_replicated(); ++k) changed |= level_expert(t_, k, b_);
      if (!changed || !find_overloaded()) return;
    }
  }

  /// Fills `frontier` with the ranks above the bound; false if there is none.
  bool find_overloaded() {
    std::fill(b_.frontier.begin(), b_.frontier.end(), 0);
    bool any = false;
    for (const Index g : t_.live_ranks) {
      if (b_.rank_load[g] > b_.capacity[g]) {
        insert(b_.frontier, g);
        any = true;
      }
    }
    return any;
  }

  bool has_room(Index rank) const { return b_.rank_load[rank] < b_.capacity[rank]; }

  /// Breadth-first from the overloaded ranks along experts that have tokens to give, up to the
  /// first level where a rank has room: true, and `next_frontier` is that level. False if there is
  /// none: `reached` then holds every rank that was met.
  /// NOTE: a rank's way in is the first of (lowest rank, lowest place) of the level before it, so
  /// that ranks of a level can be visited in parallel with the same result.
  bool search() {
    b_.reached = b_.frontier;
    for_each_rank(b_.frontier, [&](Index g) {
      b_.reached_by[g] = -1;
      return true;
    });
    for (;;) {
      std::fill(b_.next_frontier.begin(), b_.next_frontier.end(), 0);
      bool grew = false;
      for_each_rank(b_.frontier, [&](Index g) {
        grew |= expand(g);
        return true;
      });
      if (!grew) return false;
      bool found = false;
      for_each_rank(b_.next_frontier, [&](Index g) {
        found = has_room(g);
        return !found;
      });
      if (found) return true;
      std::swap(b_.frontier, b_.next_frontier);
    }
  }

  bool expand(Index rank) {
    bool grew = false;
    for (Index i = t_.incident_begin[rank]; i < t_.incident_begin[rank + 1]; ++i) {
      const Index from = t_.incident[i];
      if (b_.take[from] == 0) continue;
      const Index k = t_.place_owner[from];
      for (Index to = t_.place_begin[k]; to < t_.place_begin[k + 1]; ++to) {
        const Index next = t_.place[to].rank;
        if (contains(b_.reached, next)) continue;
        insert(b_.reached, next);
        insert(b_.next_frontier, next);
        b_.reached_by[next] = to;
        b_.reached_from[next] = from;
        grew = true;
      }
    }
    return grew;
  }

  /// Moves as many tokens as the path to `sink` takes; false if that is none.
  bool augment(Index sink) {
    Load amount = b_.capacity[sink] - b_.rank_load[sink];
    Index source = sink;
    while (b_.reached_by[source] >= 0) {
      const Index from = b_.reached_from[source];
      amount = std::min(amount, b_.take[from]);
      source = t_.place[from].rank;
    }
    amount = std::min(amount, b_.rank_load[source] - b_.capacity[source]);
    if (amount <= 0) return false;
    for (Index g = sink; b_.reached_by[g] >= 0; g = t_.place[b_.reached_from[g]].rank) {
      b_.take[b_.reached_by[g]] += amount;
      b_.take[b_.reached_from[g]] -= amount;
    }
    b_.rank_load[source] -= amount;
    b_.rank_load[sink] += amount;
    return true;
  }

  /// Nothing that the reached ranks carry could be elsewhere: they prove a higher bound.
  void raise_to_reached_set() {
    Load load = 0;
    set_.clear();
    std::fill(b_.in_proof.begin(), b_.in_proof.end(), 0);
    for_each_rank(b_.reached, [&](Index g) {
      load += b_.rank_load[g];
      b_.in_proof[g] = 1;
      set_.push_back(g);
      return true;
    });
    b_.bound = raise_to_fit(t_.cost, set_, load, b_.heap);
    update_capacity();
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
