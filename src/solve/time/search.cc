// SPDX-License-Identifier: MIT
#include "solve/time/search.h"

#include <algorithm>

namespace lplb::solvers {
namespace {

/// How two places of an expert divide what they have together, and what their ranks then cost.
struct Division {
  Load first = 0;
  Cost price_first = 0, price_second = 0;
  Cost largest() const { return std::max(price_first, price_second); }
  bool better_than(const Division& other) const {
    if (largest() != other.largest()) return largest() < other.largest();
    return price_first + price_second < other.price_first + other.price_second;
  }
};

/// A place that gives tokens to another place of its expert: `keep` stays, the rest moves.
struct Move {
  Index from = -1, to = -1;
  Load keep = 0;  // of what both have, on `from`
};

/// The chains that are tried, the most moves of one, and for how many moves an expert that has
/// moved stays.
constexpr int kChains = 4;
constexpr int kMaxChain = 48;
constexpr int kStays = 6;

class Search {
 public:
  Search(TimeState& state, SearchScratch& scratch)
      : s_(state), t_(state.tables()), m_(state.model()), scratch_(scratch) {}

  int run(Cost enough, int most) {
    int moves = 0;
    for (; moves < most; ++moves) {
      const Index rank = s_.worst();
      limit_ = s_.price(rank);
      if (limit_ <= enough) break;
      if (!move_one(rank) && !move_two(rank) && !move_many()) break;
    }
    return moves;
  }

 private:
  /// The division that gives place `a` n tokens of both.
  Division at(Index a, Index b, Cost rest_a, Cost rest_b, Load n) const {
    const Load tokens = s_.take(a) + s_.take(b);
    const Index rank_a = t_.place[a].rank;
    const Index rank_b = t_.place[b].rank;
    return Division{n, s_.price_of(rank_a, rest_a + m_.curve(rank_a).of(n)),
                    s_.price_of(rank_b, rest_b + m_.curve(rank_b).of(tokens - n))};
  }

  /// The best division of the tokens of places `a` and `b` of an expert, if the other parts of
  /// their ranks cost `rest_a` and `rest_b`. The first price grows with the tokens of `a` and the
  /// second falls, so the best is where they cross.
  Division divide(Index a, Index b, Cost rest_a, Cost rest_b) const {
    const Load tokens = s_.take(a) + s_.take(b);
    Load low = 0;  // up to the least n at which the first price has reached the second
    Load high = tokens;
    while (low < high) {
      const Load middle = low + (high - low) / 2;
      const Division d = at(a, b, rest_a, rest_b, middle);
      if (d.price_first < d.price_second) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    Division best = at(a, b, rest_a, rest_b, low);
    if (low > 0) {
      const Division below = at(a, b, rest_a, rest_b, low - 1);
      if (below.better_than(best)) best = below;
    }
    return best;
  }

  /// One expert's tokens between `rank` and another of its ranks.
  bool move_one(Index rank) {
    Division best;
    Move move;
    for (Index i = t_.incident_begin[rank]; i < t_.incident_begin[rank + 1]; ++i) {
      const Index a = t_.incident[i];
      if (s_.take(a) == 0) continue;
      const Index k = t_.place_owner[a];
      for (Index b = t_.place_begin[k]; b < t_.place_begin[k + 1]; ++b) {
        if (a == b) continue;
        const Index other = t_.place[b].rank;
        const Cost rest_b = s_.parts(other) - s_.part(b);
        if (s_.price_of(other, rest_b + 1) >= limit_) continue;
        const Division d = divide(a, b, s_.parts(rank) - s_.part(a), rest_b);
        if (d.largest() >= limit_) continue;
        if (move.from >= 0 && !d.better_than(best)) continue;
        best = d;
        move = {a, b, d.first};
      }
    }
    if (move.from < 0) return false;
    apply(move);
    return true;
  }

  /// `rank` gives tokens of one expert to another rank, which then gives tokens of another expert
  /// to a third rank, or back.
  bool move_two(Index rank) {
    Cost best = limit_;
    Move first, second;
    for (Index i = t_.incident_begin[rank]; i < t_.incident_begin[rank + 1]; ++i) {
      const Index a = t_.incident[i];
      if (s_.take(a) == 0) continue;
      const Index k = t_.place_owner[a];
      const Cost rest_a = s_.parts(rank) - s_.part(a);
      // What may stay on the rank: nothing, or as much as it can below the limit.
      const Load can_stay =
          m_.curve(rank).capacity(limit_ - 1 - m_.rank_cost(rank) - rest_a, s_.take(a) - 1);
      for (Index b = t_.place_begin[k]; b < t_.place_begin[k + 1]; ++b) {
        if (a == b) continue;
        try_second({a, b, 0}, best, first, second);
        if (can_stay > 0) try_second({a, b, can_stay}, best, first, second);
      }
    }
    if (first.from < 0) return false;
    apply(first);
    apply(second);
    return true;
  }

  void try_second(Move move, Cost& best, Move& first, Move& second) {
    const Index rank = t_.place[move.from].rank;
    const Index middle = t_.place[move.to].rank;
    const Load moved = s_.take(move.from) - move.keep;
    const Cost after = s_.parts(rank) - s_.part(move.from) + m_.curve(rank).of(move.keep);
    if (s_.price_of(rank, after) >= limit_) return;
    const Cost full =
        s_.parts(middle) - s_.part(move.to) + m_.curve(middle).of(s_.take(move.to) + moved);
    for (Index i = t_.incident_begin[middle]; i < t_.incident_begin[middle + 1]; ++i) {
      const Index a = t_.incident[i];
      if (s_.take(a) == 0 || a == move.to) continue;
      if (s_.price_of(middle, full - s_.part(a)) >= limit_) continue;
      const Index k = t_.place_owner[a];
      if (k == t_.place_owner[move.to]) continue;
      for (Index b = t_.place_begin[k]; b < t_.place_begin[k + 1]; ++b) {
        if (a == b) continue;
        const Index last = t_.place[b].rank;
        const Cost rest = (last == rank ? after : s_.parts(last)) - s_.part(b);
        if (s_.price_of(last, rest + 1) >= limit_) continue;
        const Division d = divide(a, b, full - s_.part(a), rest);
        Cost largest = d.largest();
        if (last != rank) largest = std::max(largest, s_.price_of(rank, after));
        if (largest >= best) continue;
        best = largest;
        first = move;
        second = {a, b, d.first};
      }
    }
  }

  /// A chain of moves, each the best one of the rank that is then the worst, even if another rank
  /// becomes worse than it was (as in Lin and Kernighan 1973). An expert that has moved stays for a
  /// while, so that the chain does not turn back at once. If no move of the chain ends below the
  /// limit, everything is as before. Another chain begins with another expert.
  bool move_many() {
    scratch_.before.assign(s_.takes().begin(), s_.takes().end());
    scratch_.began.clear();
    for (int chain = 0; chain < kChains; ++chain) {
      scratch_.free_again.assign(t_.expert.size(), 0);
      for (const Index k : scratch_.began) scratch_.free_again[k] = 1;
      if (follow_chain()) return true;
      s_.set_all(scratch_.before);
      if (static_cast<int>(scratch_.began.size()) <= chain) break;  // there is no other first move
    }
    return false;
  }

  bool follow_chain() {
    for (int step = 0; step < kMaxChain; ++step) {
      const Index rank = s_.worst();
      Division best;
      Move move;
      for (Index i = t_.incident_begin[rank]; i < t_.incident_begin[rank + 1]; ++i) {
        const Index a = t_.incident[i];
        const Index k = t_.place_owner[a];
        if (s_.take(a) == 0 || scratch_.free_again[k] > step) continue;
        for (Index b = t_.place_begin[k]; b < t_.place_begin[k + 1]; ++b) {
          if (a == b) continue;
          const Index other = t_.place[b].rank;
          const Cost rest_a = s_.parts(rank) - s_.part(a);
          const Cost rest_b = s_.parts(other) - s_.part(b);
          Division d = divide(a, b, rest_a, rest_b);
          if (d.first == s_.take(a)) d = at(a, b, rest_a, rest_b, 0);
          if (move.from >= 0 && !d.better_than(best)) continue;
          best = d;
          move = {a, b, d.first};
        }
      }
      if (move.from < 0) return false;
      apply(move);
      if (step == 0) scratch_.began.push_back(t_.place_owner[move.from]);
      scratch_.free_again[t_.place_owner[move.from]] = step + kStays;
      if (s_.max_price() < limit_) return true;
    }
    return false;
  }

  void apply(Move move) {
    const Load both = s_.take(move.from) + s_.take(move.to);
    s_.set(move.from, move.keep);
    s_.set(move.to, both - move.keep);
  }

  TimeState& s_;
  const Tables& t_;
  const TimeModel& m_;
  SearchScratch& scratch_;
  Cost limit_ = 0;  // the largest price: every rank that a move touches must stay below it
};

}  // namespace

int improve(TimeState& state, Cost enough, SearchScratch& scratch) {
  const int most = 64 + 4 * static_cast<int>(state.tables().place.size());
  return Search(state, scratch).run(enough, most);
}

}  // namespace lplb::solvers
