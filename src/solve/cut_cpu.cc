// SPDX-License-Identifier: MIT
#include <algorithm>
#include <array>
#include <bit>
#include <limits>

#include "solve/level.h"
#include "solve/solvers.h"

// Cut slacks. For every set S of live ranks keep slack(S) = what S can carry at the bound T, less
// what must go to S. T is the least level at which no slack is negative, and then (Gale 1957,
// Hoffman 1960) a split exists. Place after place, tokens are fixed within what the slacks leave,
// which keeps all of them >= 0: no iteration, no search, and the time does not depend on the loads.
namespace lplb::solvers {
namespace {

constexpr std::size_t kMaxSets = std::size_t{1} << kMaxCutRanks;

class Cut {
 public:
  Cut(const Tables& tables, Buffers& buffers)
      : t_(tables),
        b_(buffers),
        count_(static_cast<Index>(tables.live_ranks.size())),
        sets_(std::size_t{1} << count_) {
    for (Index i = 0; i < count_; ++i) bit_of_[t_.live_ranks[i]] = i;
  }

  void run() {
    sum_confined_loads();
    raise_bound();
    make_slacks();
    guess_rank_loads();
    for (Index k = 0; k < t_.num_replicated(); ++k) fix_expert(k);
    b_.status = SolveStatus::kOptimal;
  }

 private:
  std::size_t mask_of(Index k) const {
    std::size_t mask = 0;
    for (Index i = t_.place_begin[k]; i < t_.place_begin[k + 1]; ++i) {
      mask |= std::size_t{1} << bit_of_[t_.place[i].rank];
    }
    return mask;
  }

  /// confined_[S] = load of the experts whose places all lie in S: a sum over subsets.
  void sum_confined_loads() {
    std::fill_n(confined_.begin(), sets_, 0);
    for (Index i = 0; i < count_; ++i) {
      confined_[std::size_t{1} << i] = b_.fixed_load[t_.live_ranks[i]];
    }
    for (Index k = 0; k < t_.num_replicated(); ++k) confined_[mask_of(k)] += b_.want[k];
    for (std::size_t bit = 1; bit < sets_; bit *= 2) {
      for (std::size_t block = 0; block < sets_; block += 2 * bit) {
        for (std::size_t s = block; s < block + bit; ++s) confined_[s + bit] += confined_[s];
      }
    }
  }

  void raise_bound() {
    std::size_t proof = t_.cost.uniform() ? raise_bound_uniform() : raise_bound_speeds();
    std::fill(b_.in_proof.begin(), b_.in_proof.end(), 0);
    for (; proof != 0; proof &= proof - 1) {
      b_.in_proof[t_.live_ranks[std::countr_zero(proof)]] = 1;
    }
  }

  /// T = max over S of ceil(confined(S) / |S|): only the heaviest set of each size counts.
  std::size_t raise_bound_uniform() {
    std::array<Load, kMaxCutRanks + 1> heaviest{};
    std::array<std::size_t, kMaxCutRanks + 1> which{};
    for (std::size_t s = sets_; s-- > 1;) {
      const auto size = static_cast<std::size_t>(std::popcount(s));
      if (confined_[s] >= heaviest[size]) {
        heaviest[size] = confined_[s];
        which[size] = s;
      }
    }
    std::size_t proof = 1;
    b_.bound = {0, t_.live_ranks[0]};
    for (Index size = 1; size <= count_; ++size) {
      const Load level = heaviest[size] / size + (heaviest[size] % size != 0);
      if (level > b_.bound.tokens) {
        b_.bound.tokens = level;
        proof = which[size];
      }
    }
    return proof;
  }

  std::size_t raise_bound_speeds() {
    std::size_t proof = 1;
    b_.bound = {0, t_.live_ranks[0]};
    update_capacity();
    for (std::size_t s = 1; s < sets_; ++s) {
      if (room(s) >= confined_[s]) continue;
      b_.rank_list.clear();
      for (std::size_t bits = s; bits != 0; bits &= bits - 1) {
        b_.rank_list.push_back(t_.live_ranks[std::countr_zero(bits)]);
      }
      b_.bound = raise_to_fit(t_.cost, b_.rank_list, confined_[s], b_.heap);
      proof = s;
      update_capacity();
    }
    return proof;
  }

  void update_capacity() {
    for (Index i = 0; i < count_; ++i) {
      capacity_[i] = t_.cost.capacity(t_.live_ranks[i], b_.bound, b_.total);
    }
  }

  /// What the ranks of S carry at the bound, at most the whole batch.
  Load room(std::size_t s) const {
    Load left = b_.total;
    for (; s != 0 && left > 0; s &= s - 1) left -= std::min(left, capacity_[std::countr_zero(s)]);
    return b_.total - left;
  }

  /// NOTE: room() stops at the batch's total, so that sums cannot overflow. Such a slack never
  /// binds: all that is ever taken from it is at most the total.
  void make_slacks() {
    update_capacity();
    room_[0] = 0;
    for (std::size_t s = 1; s < sets_; ++s) {
      const Load rest = room_[s & (s - 1)];
      room_[s] = rest + std::min(b_.total - rest, capacity_[std::countr_zero(s)]);
      slack_[s] = room_[s] - confined_[s];
    }
    slack_[0] = 0;
  }

  /// Even shares stand in for the tokens of experts not yet fixed: what fix_expert() levels
  /// against.
  void guess_rank_loads() {
    b_.rank_load = b_.fixed_load;
    for (Index k = 0; k < t_.num_replicated(); ++k) {
      const Index begin = t_.place_begin[k];
      const Index places = t_.place_begin[k + 1] - begin;
      for (Index i = 0; i < places; ++i) {
        b_.take[begin + i] = b_.want[k] / places + (i < b_.want[k] % places);
        b_.rank_load[t_.place[begin + i].rank] += b_.take[begin + i];
      }
    }
  }

  /// Levels the expert, then corrects place after place to what the slacks allow.
  void fix_expert(Index k) {
    level_expert(t_, k, b_);
    const Index last = t_.place_begin[k + 1] - 1;
    std::size_t places = mask_of(k);
    Load left = b_.want[k];
    for (Index i = t_.place_begin[k]; i < last; ++i) {
      const std::size_t here = std::size_t{1} << bit_of_[t_.place[i].rank];
      const std::size_t others = places & ~here;
      const Load target = std::min(b_.take[i], left);
      const auto [low, high] = allowed(here, others, left);
      set_take(i, std::clamp(target, low, high));
      commit(here, others, b_.take[i], left - b_.take[i]);
      left -= b_.take[i];
      places = others;
    }
    set_take(last, left);
  }

  void set_take(Index place, Load tokens) {
    b_.rank_load[t_.place[place].rank] += tokens - b_.take[place];
    b_.take[place] = tokens;
  }

  /// Calls body(S) for every S that holds all of `in` and nothing of `out`.
  template <class Body>
  void for_each_set(std::size_t in, std::size_t out, Body body) const {
    const std::size_t free = (sets_ - 1) & ~(in | out);
    std::size_t s = 0;
    do {
      body(s | in);
      s = (s - free) & free;
    } while (s != 0);
  }

  /// The tokens that `here` may take of `left`, when `others` take the rest.
  std::pair<Load, Load> allowed(std::size_t here, std::size_t others, Load left) const {
    Load high = left;
    Load least = std::numeric_limits<Load>::max();
    if (std::has_single_bit(others)) {
      for_each_set(here, others, [&](std::size_t s) { high = std::min(high, slack_[s]); });
    } else {
      for_each_set(here, 0, [&](std::size_t s) {
        if ((s & others) != others) high = std::min(high, slack_[s]);
      });
    }
    for_each_set(others, here, [&](std::size_t s) { least = std::min(least, slack_[s]); });
    return {std::max<Load>(0, left - least), high};
  }

  /// `here` takes `tokens` for good, `others` share `rest`.
  void commit(std::size_t here, std::size_t others, Load tokens, Load rest) {
    if (std::has_single_bit(others)) {
      for_each_set(here, others, [&](std::size_t s) { slack_[s] -= tokens; });
    } else {
      for_each_set(here, 0, [&](std::size_t s) {
        if ((s & others) != others) slack_[s] -= tokens;
      });
    }
    for_each_set(others, here, [&](std::size_t s) { slack_[s] -= rest; });
  }

  const Tables& t_;
  Buffers& b_;
  const Index count_;       // live ranks
  const std::size_t sets_;  // 2^count
  std::array<Index, kMaxCutRanks> bit_of_{};
  std::array<Load, kMaxCutRanks> capacity_;
  std::array<Load, kMaxSets> confined_, room_, slack_;
};

}  // namespace

void solve_cut(const Tables& tables, const SolveOptions&, Buffers& buffers) {
  Cut(tables, buffers).run();
}

}  // namespace lplb::solvers
