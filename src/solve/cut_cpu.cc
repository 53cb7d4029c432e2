// SPDX-License-Identifier: MIT
#include <algorithm>
#include <array>
#include <bit>
#include <limits>

#include "core/raise_to_fit.h"
#include "solve/solvers.h"

// The solver "cut": slacks of cuts. For every set S of live ranks, confined(S) is the number of
// tokens that must go to S. T is the least level at which every S can carry confined(S). Then a
// split at T exists (Gale 1957, Hoffman 1960), and a few sweeps usually find one.
//
// If they do not, slack(S) is what S can carry at T, less what must go there. From the even split
// on, the experts are fixed one by one within what the slacks leave, so that every slack stays
// >= 0. This needs no search, and a bounded number of steps for any loads. It starts from the even
// split and not from the sweeps' end, so that a block of threads can do both in parallel.
namespace lplb::solvers {
namespace {

constexpr std::size_t kMaxSets = std::size_t{1} << kMaxCutRanks;
constexpr int kSweeps = 4;
constexpr Index kAskedColours = 6;

/// All non-empty sets of kMaxCutRanks ranks, by size. The sets of k ranks are order[begin[k]] ...
/// order[begin[k + 1] - 1], ascending.
struct SetsBySize {
  std::array<std::uint8_t, kMaxSets> order{};
  std::array<std::size_t, kMaxCutRanks + 2> begin{};

  constexpr SetsBySize() {
    std::size_t filled = 0;
    for (int size = 1; size <= kMaxCutRanks; ++size) {
      begin[size] = filled;
      for (std::size_t s = 1; s < kMaxSets; ++s) {
        if (std::popcount(s) == size) order[filled++] = static_cast<std::uint8_t>(s);
      }
    }
    begin[kMaxCutRanks + 1] = filled;
  }
};
constexpr SetsBySize kSets;

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
    update_capacity();
    share_evenly(t_, b_);
    for (int i = 0; i < kSweeps && !fits(); ++i) sweep();
    if (!fits()) {
      make_slacks();
      share_evenly(t_, b_);
      // NOTE: stop when all ranks fit: the experts that are not fixed yet would not change.
      for (Index k = 0; k < t_.num_replicated() && !fits(); ++k) fix_expert(k);
    }
    b_.status = SolveStatus::kOptimal;
  }

 private:
  /// Levels all experts, or stops when the ranks fit, which is tested after every kAskedColours
  /// colours. (A few ranks that share many experts have many colours, and fit soon.)
  void sweep() {
    const Index count = t_.num_replicated();
    for (Index k = 0; k < count; ++k) {
      level_expert(t_, k, b_);
      const bool ends_colour = k + 1 < count && t_.colour[k + 1] != t_.colour[k];
      if (ends_colour && (t_.colour[k] + 1) % kAskedColours == 0 && fits()) return;
    }
  }

  std::size_t mask_of(Index k) const {
    std::size_t mask = 0;
    for (Index i = t_.place_begin[k]; i < t_.place_begin[k + 1]; ++i) {
      mask |= std::size_t{1} << bit_of_[t_.place[i].rank];
    }
    return mask;
  }

  /// confined_[S] = load of the experts whose places all lie in S: a sum over the subsets of S.
  void sum_confined_loads() {
    confined_.fill(0);  // also the sets beyond sets_, which weigh nothing
    for (Index i = 0; i < count_; ++i) {
      confined_[std::size_t{1} << i] = b_.fixed_load[t_.live_ranks[i]];
    }
    for (Index k = 0; k < t_.num_replicated(); ++k) confined_[mask_of(k)] += b_.want[k];
    add_subsets<1>();
    add_subsets<2>();
    add_subsets<4>();
    add_subsets<8>();
    add_subsets<16>();
    add_subsets<32>();
    add_subsets<64>();
    add_subsets<128>();
  }

  /// One step of the sum over subsets; a constant bit lets the compiler vectorise it.
  template <std::size_t kBit>
  void add_subsets() {
    for (std::size_t block = 0; block + kBit < sets_; block += 2 * kBit) {
      for (std::size_t s = block; s < block + kBit; ++s) confined_[s + kBit] += confined_[s];
    }
  }

  void raise_bound() {
    std::size_t proof = t_.cost.uniform() ? raise_bound_uniform() : raise_bound_speeds();
    if (t_.cost.uniform()) b_.bound.rank = t_.live_ranks[std::countr_zero(proof)];
    std::fill(b_.in_proof.begin(), b_.in_proof.end(), 0);
    for (; proof != 0; proof &= proof - 1) {
      b_.in_proof[t_.live_ranks[std::countr_zero(proof)]] = 1;
    }
  }

  /// T = max over S of ceil(confined(S) / |S|): only the heaviest set of each size counts.
  std::size_t raise_bound_uniform() {
    b_.bound = {0, t_.live_ranks[0]};
    Index proof_size = 1;
    Load proof_load = 0;
    for (Index size = 1; size <= count_; ++size) {
      Load heaviest = 0;
      for (std::size_t i = kSets.begin[size]; i < kSets.begin[size + 1]; ++i) {
        heaviest = std::max(heaviest, confined_[kSets.order[i]]);
      }
      const Load level = heaviest / size + (heaviest % size != 0);
      if (level > b_.bound.tokens) {
        b_.bound.tokens = level;
        proof_size = size;
        proof_load = heaviest;
      }
    }
    const auto first = kSets.order.begin() + static_cast<std::ptrdiff_t>(kSets.begin[proof_size]);
    return *std::find_if(first, kSets.order.end(),
                         [&](std::size_t s) { return confined_[s] == proof_load; });
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

  /// What the ranks of S can carry at the bound, at most the total of the batch.
  Load room(std::size_t s) const {
    Load left = b_.total;
    for (; s != 0 && left > 0; s &= s - 1) left -= std::min(left, capacity_[std::countr_zero(s)]);
    return b_.total - left;
  }

  /// NOTE: room() is at most the total of the batch, so that sums cannot overflow. A slack that
  /// this limits never binds, because all that is ever taken from it is at most the total.
  void make_slacks() {
    room_[0] = 0;
    for (std::size_t s = 1; s < sets_; ++s) {
      const Load rest = room_[s & (s - 1)];
      room_[s] = rest + std::min(b_.total - rest, capacity_[std::countr_zero(s)]);
      slack_[s] = room_[s] - confined_[s];
    }
    slack_[0] = 0;
  }

  /// Whether every rank is within the bound.
  bool fits() const {
    for (Index i = 0; i < count_; ++i) {
      if (b_.rank_load[t_.live_ranks[i]] > capacity_[i]) return false;
    }
    return true;
  }

  /// Corrects the expert's tokens to what the slacks allow, place by place.
  void fix_expert(Index k) {
    const Index last = t_.place_begin[k + 1] - 1;
    std::size_t places = mask_of(k);
    Load left = b_.want[k];
    for (Index i = t_.place_begin[k]; i < last; ++i) {
      const std::size_t here = std::size_t{1} << bit_of_[t_.place[i].rank];
      const std::size_t others = places & ~here;
      const auto [low, high] = allowed(here, others, left);
      set_take(i, std::clamp(b_.take[i], low, high));
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

  /// Calls body(S) for every S that contains all of `in` and nothing of `out`.
  template <class Body>
  void for_each_set(std::size_t in, std::size_t out, Body body) const {
    const std::size_t free = (sets_ - 1) & ~(in | out);
    std::size_t s = 0;
    do {
      body(s | in);
      s = (s - free) & free;
    } while (s != 0);
  }

  /// The least and the most tokens that `here` may take of `left`, if `others` take the rest.
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

  /// Updates the slacks: `here` takes `tokens` for good, and `others` share `rest`.
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
