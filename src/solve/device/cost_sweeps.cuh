// SPDX-License-Identifier: MIT
#pragma once

#include "solve/device/cost_levels.cuh"

namespace lplb::solvers {

struct TimeOutcome {
  long long max_cost;
  long long bound;  ///< no split costs less
};

/// `sum` and what the places of a rank add to it.
template <class Number>
__device__ __forceinline__ Number sum_over_places(const BlockTables& t, int rank, Number sum,
                                                  const Number* places) {
  LPLB_ROLLED
  for (int i = t.incident_begin[rank]; i < t.incident_begin[rank + 1]; ++i) {
    sum += places[t.incident[i]];
  }
  return sum;
}

/// FastTime::solve_parts() of fast.cc for a block of kTimeThreads: the split by tokens, made
/// cheaper by sweeps. Cost: as CostLevels has it.
template <class Cost>
class CostSweeps {
 public:
  __device__ __forceinline__ CostSweeps(const DeviceCostTables& costs, const BlockTables& tables,
                                        const BlockState& state, const BlockTimeState& time,
                                        int thread)
      : c_(costs),
        t_(tables),
        s_(state),
        m_(time),
        levels_(costs, tables, state, time),
        price_(reinterpret_cast<Cost*>(time.price)),
        part_(reinterpret_cast<Cost*>(time.part)),
        thread_(thread),
        lane_(thread % kWarpSize),
        warp_(thread / kWarpSize) {}

  /// BlockFastTime::run() for the split by tokens.
  __device__ __forceinline__ void run(BlockOutcome* found, TimeOutcome* out) const {
    // Different warps do these, if the placement is not large.
    for_each(0, t_.place_begin[t_.num_replicated],
             [&](int i) { part_[i] = c_.of<Cost>(c_.curve(t_.place_rank[i]), s_.take[i]); });
    for_each(kTimeThreads / 2, t_.num_replicated, [&](int k) { levels_.open_window(k); });
    add_least();
    __syncthreads();
    for_each(0, t_.num_ranks, [&](int g) {
      const Cost parts = sum_over_places(t_, g, static_cast<Cost>(m_.fixed[g].value()), part_);
      price_[g] = c_.with_constant(c_.constant<Cost>(c_.curve(g)), parts);
    });
    if (warp_ == kTimeWarps - 1) {
      const Cost bound = find_bound();
      if (lane_ == 0) out->bound = bound;
    }
    const bool is_few = t_.num_replicated <= kTimeFew;
    const bool is_held = is_few && t_.most_places <= 2;
    Pair pair;
    int colour = kNone;
    if (is_held && warp_ < t_.num_replicated) {
      pair = levels_.pair_of(warp_);
      colour = colour_of(warp_);
    }
    __syncthreads();

    const auto bound = static_cast<Cost>(out->bound);
    const Cost near = bound + bound / kNearPart;
    int sweeps = 0;
    LPLB_ROLLED
    while (sweeps < kTimeSweeps && (is_few || sweeps == 0 ? any_above(near) : can_help(near))) {
      const Cost enough = is_few && sweeps == 0 ? 0 : near;
      if (is_held) {
        sweep_held(pair, colour, enough);
      } else {
        sweep(enough);
      }
      ++sweeps;
    }
    if (warp_ != 0) return;
    int most = 0;
    Cost price = 0;
    for_all(lane_, t_.num_ranks, kWarpSize, [&](int g) {
      most = max(most, s_.rank_load[g]);
      price = max(price, price_[g]);
    });
    most = __reduce_max_sync(~0u, most);
    price = warp_max(price);
    if (lane_ != 0) return;
    out->max_cost = price;
    *found = {found->bound, most, sweeps, price <= bound ? 1 : 0};
  }

 private:
  using Pair = typename CostLevels<Cost>::Pair;
  static constexpr int kNone = 0x7FFFFFFF;
  static_assert(kTimeFew == kTimeWarps);

  template <class Body>
  __device__ __forceinline__ static void for_all(int begin, int count, int step, Body body) {
    LPLB_ROLLED
    for (int i = begin; i < count; i += step) body(i);
  }
  /// body(0), body(1) and so on, by the threads from `first` on.
  template <class Body>
  __device__ __forceinline__ void for_each(int first, int count, Body body) const {
    for_all((thread_ + kTimeThreads - first) % kTimeThreads, count, kTimeThreads, body);
  }

  // --- The bound.

  /// What each warp contributes to the bound: the largest price of a rank's fixed experts, and what
  /// all experts, and those that prove the bound of the tokens, cost at least.
  __device__ __forceinline__ void add_least() const {
    Cost most = 0;
    Cost all = 0;
    Cost proven = 0;
    for_each(3 * kTimeThreads / 4, t_.num_live, [&](int i) {
      const int g = t_.live_rank[i];
      const auto fixed = static_cast<Cost>(m_.fixed[g].value());
      most = max(most, c_.with_constant(c_.constant<Cost>(c_.curve(g)), fixed));
      all += fixed;
      proven += has_bit(s_.proof, g) ? fixed : 0;
    });
    for_each(kTimeThreads / 4, c_.has_least() ? t_.num_replicated : 0, [&](int k) {
      bool is_confined = true;
      LPLB_ROLLED
      for (int i = t_.place_begin[k]; i < t_.place_begin[k + 1]; ++i) {
        is_confined = is_confined && has_bit(s_.proof, t_.place_rank[i]);
      }
      const Cost least = c_.of<Cost>(c_.least(), s_.want[k]);
      all += least;
      proven += is_confined ? least : 0;
    });
    most = warp_max(most);
    all = warp_sum(all);
    proven = warp_sum(proven);
    if (lane_ == 0) m_.least[warp_] = {most, all, proven};
    __syncwarp();
  }

  /// The largest of what a rank's fixed experts cost, and of what the experts of all ranks, and of
  /// those that prove the bound of the tokens, cost at least, shared equally. One warp calls it.
  __device__ __forceinline__ Cost find_bound() const {
    const BlockTimeState::Least mine =
        lane_ < kTimeWarps ? m_.least[lane_] : BlockTimeState::Least{0, 0, 0};
    const Cost most = warp_max(static_cast<Cost>(mine.most));
    if (!c_.has_least()) return most;
    int ranks = 0;
    for_all(lane_, BlockState::words(t_.num_ranks), kWarpSize,
            [&](int word) { ranks += __popc(s_.proof[word]); });
    ranks = __reduce_add_sync(~0u, ranks);
    const Cost of_all = equal_price(warp_sum(static_cast<Cost>(mine.all)), t_.num_live);
    const Cost of_proof = equal_price(warp_sum(static_cast<Cost>(mine.proven)), ranks);
    return max(most, max(of_all, of_proof));
  }

  /// The price of a rank if `ranks` ranks share `costs` equally.
  __device__ __forceinline__ Cost equal_price(Cost costs, int ranks) const {
    if (ranks == 0) return 0;
    return c_.with_constant(c_.constant<Cost>(c_.curve(t_.live_rank[0])),
                            quotient(costs + ranks - 1, ranks));
  }

  /// n / count for 0 <= n.
  __device__ __forceinline__ int quotient(int n, int count) const { return t_.divide(n, count); }
  /// The same in digits of 16 bits. A division of 64 bits takes ten times as long.
  __device__ __forceinline__ long long quotient(long long n, int count) const {
    long long result = 0;
    int rest = 0;
    LPLB_ROLLED
    for (int bits = n >> 32 == 0 ? 16 : 48; bits >= 0; bits -= 16) {
      const int digits = rest << 16 | static_cast<int>(n >> bits & 0xFFFF);
      const int digit = t_.divide(digits, count);
      rest = digits - digit * count;
      result = result << 16 | digit;
    }
    return result;
  }

  // --- Whether a sweep follows. NOTE: each is a barrier with a vote, because all must decide
  // alike, and a warp that goes on changes what another one would read here.

  /// Whether a rank costs more than `near`.
  __device__ __forceinline__ bool any_above(Cost near) const {
    bool is_above = false;
    for_each(0, t_.num_ranks, [&](int g) { is_above |= price_[g] > near; });
    return __syncthreads_or(is_above ? 1 : 0) != 0;
  }

  /// Whether the rank that costs most is above `near`, and another one can help it:
  /// FastTime::can_be_helped(). A warp asks for each of its places.
  __device__ __forceinline__ bool can_help(Cost near) const {
    int rank = 0;
    Cost most = -1;
    for_all(lane_, t_.num_ranks, kWarpSize, [&](int g) {
      const Cost mine = price_[g];
      if (mine <= most) return;
      rank = g;
      most = mine;
    });
    const Cost worst = warp_max(most + 1) - 1;  // the reduction is of numbers >= 0
    rank = __reduce_min_sync(~0u, most == worst ? rank : kNone);
    bool helps = false;
    const int end = worst > near ? t_.incident_begin[rank + 1] : 0;
    for_all(t_.incident_begin[rank] + warp_, end, kTimeWarps, [&](int i) {
      const int from = t_.incident[i];
      const int k = t_.incident_owner[i];
      if (s_.take[from] == 0) return;
      helps |= levels_.helps(from, t_.place_begin[k], t_.place_begin[k + 1], worst);
    });
    return __syncthreads_or(helps ? 1 : 0) != 0;
  }

  // --- Sweeps. Each turn of a colour ends in a barrier.

  /// The colour of expert k, of at most kTimeFew.
  __device__ __forceinline__ int colour_of(int k) const {
    const bool ends = lane_ < t_.num_colours && t_.colour_begin[lane_ + 1] <= k;
    return __popc(__ballot_sync(~0u, ends));
  }

  /// Levels all experts, those of a colour at once. This warp has `pair`, whose colour is `colour`.
  __device__ __forceinline__ void sweep_held(const Pair& pair, int colour, Cost enough) const {
    LPLB_ROLLED
    for (int c = 0; c < t_.num_colours; ++c) {
      if (c == colour) levels_.level_pair(pair, enough);
      __syncwarp();
      __syncthreads();
    }
  }

  /// The same for any experts: warp w has w, w + kTimeWarps, ...
  __device__ __forceinline__ void sweep(Cost enough) const {
    int k = warp_;
    LPLB_ROLLED
    for (int c = 0; c < t_.num_colours; ++c) {
      const int colour_end = t_.colour_begin[c + 1];
      LPLB_ROLLED
      for (; k < colour_end; k += kTimeWarps) {
        const int begin = t_.place_begin[k];
        const int end = t_.place_begin[k + 1];
        if (end - begin > 2) {
          levels_.level_many(begin, end, enough);
        } else if (levels_.is_above(begin, enough)) {
          levels_.level_pair(levels_.pair_of(k), enough);
        }
      }
      __syncwarp();
      __syncthreads();
    }
  }

  DeviceCostTables c_;
  BlockTables t_;
  const BlockState& s_;
  const BlockTimeState& m_;
  CostLevels<Cost> levels_;
  Cost* price_;
  Cost* part_;
  int thread_, lane_, warp_;
};

}  // namespace lplb::solvers
