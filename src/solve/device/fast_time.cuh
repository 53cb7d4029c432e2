// SPDX-License-Identifier: MIT
#pragma once

#include "solve/device/cost_tables.cuh"
#include "solve/device/wide.cuh"
#include "solve/time/fast.h"

// The twin of fast.cc, for a block of kTimeThreads, with the same result. Costs have 64 bits. What
// a place costs is kept beside what it takes, so that a table is read only where tokens change.
//
// NOTE: all functions are inlined (DeviceCostTables says why), so each is called in one place.
namespace lplb::solvers {

struct TimeOutcome {
  long long max_cost;
  long long bound;  ///< no split costs less
};

class BlockFastTime {
 public:
  __device__ __forceinline__ BlockFastTime(const unsigned char* image, const DeviceTablesHeader& h,
                                           const BlockState& state, const BlockTimeState& time,
                                           int thread)
      : c_(image, h),
        t_(image, h),
        s_(state),
        m_(time),
        thread_(thread),
        lane_(thread % kWarpSize),
        warp_(thread / kWarpSize) {}

  /// Replaces the solver's split, with `found` as its outcome, by that of the least cost. All
  /// threads of the block call it, after a barrier; `found` and `out` are in shared memory, and
  /// ready after the next one. `is_units`: the solver had 1 for each active expert in place of its
  /// tokens, because none passes the first step. `found` is of tokens afterwards, and is_optimal of
  /// the cost.
  __device__ __forceinline__ void run(bool is_units, BlockOutcome* found, TimeOutcome* out) {
    if (is_units) {
      take_units(found, out);
    } else {
      divide(found, out);
    }
  }

 private:
  template <class Body>
  __device__ __forceinline__ static void for_all(int begin, int count, int step, Body body) {
    LPLB_ROLLED
    for (int i = begin; i < count; i += step) body(i);
  }
  template <class Body>
  __device__ __forceinline__ void for_each(int count, Body body) const {
    for_all(thread_, count, kTimeThreads, body);
  }

  /// Sums over the places of a rank.
  template <class Number>
  __device__ __forceinline__ Number sum_of_rank(int rank, Number sum, const Number* places) const {
    LPLB_ROLLED
    for (int i = t_.incident_begin[rank]; i < t_.incident_begin[rank + 1]; ++i) {
      sum += places[t_.incident[i]];
    }
    return sum;
  }

  // --- One token for each expert.

  __device__ __forceinline__ void take_units(BlockOutcome* found, TimeOutcome* out) const {
    for_each(num_places(),
             [&](int i) { s_.take[t_.incident[i]] *= m_.want[t_.incident_owner[i]]; });
    __syncthreads();
    for_each(t_.num_ranks,
             [&](int g) { s_.rank_load[g] = sum_of_rank(g, m_.fixed_tokens[g], s_.take); });
    __syncthreads();
    if (warp_ != 0) return;
    int total = 0;
    int most = 0;
    int most_fixed = 0;
    for_all(lane_, t_.num_ranks, kWarpSize, [&](int g) {
      total += s_.rank_load[g];
      most = max(most, s_.rank_load[g]);
      most_fixed = max(most_fixed, m_.fixed_tokens[g]);
    });
    total = __reduce_add_sync(~0u, total);
    most = __reduce_max_sync(~0u, most);
    most_fixed = __reduce_max_sync(~0u, most_fixed);
    if (lane_ != 0) return;
    const int rank = t_.live_rank[0];
    const long long step = c_.first_cost(c_.curve(rank));
    *out = {c_.price_of(rank, found->max_load * step), c_.price_of(rank, found->bound * step)};
    const int equal = static_cast<int>((static_cast<unsigned>(total) + t_.num_live - 1) /
                                       static_cast<unsigned>(t_.num_live));
    *found = {max(equal, most_fixed), most, 0, out->max_cost <= out->bound ? 1 : 0};
  }

  // --- The split by tokens, made cheaper by sweeps.

  __device__ __forceinline__ void divide(BlockOutcome* found, TimeOutcome* out) const {
    for_each(num_places(),
             [&](int i) { m_.part[i] = c_.of(c_.curve(t_.place_rank[i]), s_.take[i]); });
    for_each(t_.num_replicated, [&](int k) { open_window(k); });
    add_least();
    __syncthreads();
    for_each(t_.num_ranks,
             [&](int g) { m_.cost[g] = sum_of_rank(g, m_.fixed[g].value(), m_.part); });
    if (warp_ == kTimeWarps - 1) out->bound = find_bound();
    __syncthreads();
    const long long bound = out->bound;
    const long long near = bound + bound / kNearPart;
    const bool is_few = t_.num_replicated <= kTimeFew;
    int sweeps = 0;
    bool goes_on = any_above(near);
    Pair pair;
    if (is_few && goes_on) pair = pair_of(warp_);
    LPLB_ROLLED
    while (goes_on) {
      sweep(pair, is_few && sweeps == 0 ? 0 : near);
      ++sweeps;
      goes_on = sweeps < kTimeSweeps && any_above(near);
    }
    if (warp_ != 0) return;
    int most = 0;
    long long price = 0;
    for_all(lane_, t_.num_ranks, kWarpSize, [&](int g) {
      most = max(most, s_.rank_load[g]);
      const long long mine = c_.price_of(g, m_.cost[g]);
      price = mine > price ? mine : price;
    });
    most = __reduce_max_sync(~0u, most);
    price = warp_max(price);
    if (lane_ != 0) return;
    out->max_cost = price;
    *found = {found->bound, most, sweeps, price <= bound ? 1 : 0};
  }

  __device__ __forceinline__ int num_places() const { return t_.place_begin[t_.num_replicated]; }

  /// What each warp contributes to the bound: the largest price of a rank's fixed experts, and what
  /// all experts, and those that prove the bound of the tokens, cost at least. The last threads
  /// begin, because the first ones have places.
  __device__ __forceinline__ void add_least() const {
    long long most = 0;
    long long all = 0;
    long long proven = 0;
    const int last_first = kTimeThreads - 1 - thread_;
    for_all(last_first, t_.num_live, kTimeThreads, [&](int i) {
      const int g = t_.live_rank[i];
      const long long fixed = m_.fixed[g].value();
      const long long price = c_.price_of(g, fixed);
      most = price > most ? price : most;
      all += fixed;
      proven += has_bit(s_.proof, g) ? fixed : 0;
    });
    for_all(last_first, c_.has_least() ? t_.num_replicated : 0, kTimeThreads, [&](int k) {
      bool is_confined = true;
      LPLB_ROLLED
      for (int i = t_.place_begin[k]; i < t_.place_begin[k + 1]; ++i) {
        is_confined = is_confined && has_bit(s_.proof, t_.place_rank[i]);
      }
      const long long least = c_.of(c_.least(), s_.want[k]);
      all += least;
      proven += is_confined ? least : 0;
    });
    most = warp_max(most);
    all = warp_sum(all);
    proven = warp_sum(proven);
    if (lane_ == 0) m_.least[warp_] = {most, all, proven};
  }

  /// The largest of what a rank's fixed experts cost, and of what the experts of all ranks, and of
  /// those that prove the bound of the tokens, cost at least, shared equally. One warp calls it.
  __device__ __forceinline__ long long find_bound() const {
    const BlockTimeState::Least mine =
        lane_ < kTimeWarps ? m_.least[lane_] : BlockTimeState::Least{0, 0, 0};
    const long long most = warp_max(mine.most);
    if (!c_.has_least()) return most;
    int ranks = 0;
    for_all(lane_, BlockState::words(t_.num_ranks), kWarpSize,
            [&](int word) { ranks += __popc(s_.proof[word]); });
    const long long of_all = equal_price(warp_sum(mine.all), t_.num_live);
    const long long of_proof = equal_price(warp_sum(mine.proven), __reduce_add_sync(~0u, ranks));
    const long long larger = of_all > of_proof ? of_all : of_proof;
    return larger > most ? larger : most;
  }

  /// The price of a rank if `ranks` ranks share `costs` equally.
  __device__ __forceinline__ long long equal_price(long long costs, int ranks) const {
    return ranks == 0 ? 0 : c_.price_of(t_.live_rank[0], quotient(costs + ranks - 1, ranks));
  }

  /// n / count for 0 <= n, in digits of 16 bits. A division of 64 bits takes ten times as long.
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

  /// Whether a rank costs more than `near`. NOTE: it is a barrier, because a warp that goes on
  /// changes what another one would read here; and all must decide alike.
  __device__ __forceinline__ bool any_above(long long near) const {
    bool is_above = false;
    for_each(t_.num_live, [&](int i) {
      const int g = t_.live_rank[i];
      is_above |= c_.price_of(g, m_.cost[g]) > near;
    });
    return __syncthreads_or(is_above ? 1 : 0) != 0;
  }

  // --- FastTime::level() of the CPU. One warp calls these for an expert.

  static constexpr int kNone = 0x7FFFFFFF;
  static constexpr long long kNever = 0x7FFFFFFFFFFFFFFF;
  static_assert(kTimeLanes == kWarpSize && kTimeFew == kTimeWarps);

  /// An expert with two places, and for each lane what these take and cost if the first one takes a
  /// number of steps. It depends on no other expert, so a warp has it before its turn.
  struct Pair {
    int k = kNone;  // kNone: none, or it has more places
    int place = 0, rank_a = 0, rank_b = 0;
    int last = 0;   // the last lane with a number of its own
    int first = 0;  // tokens of the first place
    int both = 0;
    long long part_a = 0, part_b = 0;
  };

  /// Notes the first number of steps that is tried for expert k, and how many are all.
  __device__ __forceinline__ void open_window(int k) const {
    const int place = t_.place_begin[k];
    const DeviceCurve& curve = c_.curve(t_.place_rank[place]);
    const int given = s_.take[place] > 0 ? c_.steps(curve, s_.take[place]) : 0;
    const int all = s_.want[k] > 0 ? c_.steps(curve, s_.want[k]) : 0;
    const int begin = max(min(given - kTimeLanes / 2, all - kTimeLanes + 1), 0);
    m_.window[k] = int2{begin, all};
  }

  __device__ __forceinline__ Pair pair_of(int k) const {
    Pair p;
    if (k >= t_.num_replicated) return p;
    p.place = t_.place_begin[k];
    if (t_.place_begin[k + 1] - p.place != 2) return p;
    p.k = k;
    p.rank_a = t_.place_rank[p.place];
    p.rank_b = t_.place_rank[p.place + 1];
    const int2 window = m_.window[k];
    p.both = s_.want[k];
    p.last = min(window.y - window.x, kWarpSize - 1);
    const int steps = min(window.x + lane_, window.y);
    const DeviceCurve& a = c_.curve(p.rank_a);
    p.first = steps < window.y ? c_.end(a, steps) : p.both;
    p.part_a = c_.of_steps(a, steps);
    p.part_b = c_.of(c_.curve(p.rank_b), p.both - p.first);
    return p;
  }

  /// Levels all experts, those of a colour at once: warp w has w, w + kTimeWarps, ... `pair` is
  /// that of the warp's first expert, then and later. Ends in a barrier.
  __device__ __forceinline__ void sweep(Pair& pair, long long enough) const {
    int k = warp_;
    LPLB_ROLLED
    for (int c = 0; c < t_.num_colours; ++c) {
      const int end = t_.colour_begin[c + 1];
      LPLB_ROLLED
      while (k < end) {
        // NOTE: with many experts most are passed by, and a pair is not made for these.
        const bool is_made = t_.num_replicated <= kTimeFew;
        if (is_made || is_above(k, enough)) {
          if (!is_made) pair = pair_of(k);
          if (pair.k == k) {
            level_pair(pair, enough);
          } else {
            level_many(k, enough);
          }
        }
        k += kTimeWarps;
      }
      __syncthreads();
    }
  }

  /// Whether a rank of expert k costs more than `enough`.
  __device__ __forceinline__ bool is_above(int k, long long enough) const {
    bool is_above = false;
    for_all(t_.place_begin[k] + lane_, t_.place_begin[k + 1], kWarpSize,
            [&](int place) { is_above |= price_at(place) > enough; });
    return __any_sync(~0u, is_above);
  }

  __device__ __forceinline__ long long price_at(int place) const {
    const int rank = t_.place_rank[place];
    return c_.price_of(rank, m_.cost[rank]);
  }
  __device__ __forceinline__ static long long with_constant(const DeviceCurve& curve,
                                                            long long parts) {
    return parts == 0 ? 0 : parts + curve.rank;
  }
  __device__ __forceinline__ static bool is_below(long long larger, long long sum,
                                                  long long other_larger, long long other_sum) {
    return larger != other_larger ? larger < other_larger : sum < other_sum;
  }

  /// Place `from` takes `first` tokens, which cost `part_a`, and `to` the rest of both.
  __device__ __forceinline__ void put(int from, int to, int first, int both, long long part_a,
                                      long long part_b) const {
    const int rank_a = t_.place_rank[from];
    const int rank_b = t_.place_rank[to];
    const int more = first - s_.take[from];
    m_.cost[rank_a] += part_a - m_.part[from];
    m_.cost[rank_b] += part_b - m_.part[to];
    m_.part[from] = part_a;
    m_.part[to] = part_b;
    s_.take[from] = first;
    s_.take[to] = both - first;
    s_.rank_load[rank_a] += more;
    s_.rank_load[rank_b] -= more;
  }

  __device__ __forceinline__ void level_pair(const Pair& p, long long enough) const {
    const DeviceCurve& a = c_.curve(p.rank_a);
    const DeviceCurve& b = c_.curve(p.rank_b);
    const long long cost_a = m_.cost[p.rank_a];
    const long long cost_b = m_.cost[p.rank_b];
    const long long rest_a = cost_a - m_.part[p.place];
    const long long rest_b = cost_b - m_.part[p.place + 1];
    const long long now_a = with_constant(a, cost_a);
    const long long now_b = with_constant(b, cost_b);
    const long long larger_now = max(now_a, now_b);
    if (p.both == 0 || larger_now <= enough) return;
    const long long price_a = with_constant(a, rest_a + p.part_a);
    const long long price_b = with_constant(b, rest_b + p.part_b);
    const long long larger = max(price_a, price_b);
    const long long sum = price_a + price_b;
    // The least number at which the first price reaches the second, or the last; the one before may
    // be better.
    const int crossing = __popc(__ballot_sync(~0u, lane_ < p.last && price_a < price_b));
    const long long next_larger = __shfl_down_sync(~0u, larger, 1);
    const long long next_sum = __shfl_down_sync(~0u, sum, 1);
    const unsigned better = __ballot_sync(~0u, is_below(larger, sum, next_larger, next_sum));
    const int best = crossing - (crossing > 0 ? static_cast<int>(better >> (crossing - 1) & 1) : 0);
    if (lane_ == best && is_below(larger, sum, larger_now, now_a + now_b)) {
      put(p.place, p.place + 1, p.first, p.both, p.part_a, p.part_b);
    }
  }

  /// An expert with more places.
  __device__ __forceinline__ void level_many(int k, long long enough) const {
    const int begin = t_.place_begin[k];
    const int end = t_.place_begin[k + 1];
    if (s_.want[k] == 0) return;
    LPLB_ROLLED
    for (int i = 0; i < kTimeDivisions; ++i) {
      if (!divide_dearest(begin, end, enough)) break;
    }
  }

  __device__ __forceinline__ bool divide_dearest(int begin, int end, long long enough) const {
    int from = kNone;
    long long price = -1;
    for_all(begin + lane_, end, kWarpSize, [&](int place) {
      const long long mine = s_.take[place] > 0 ? price_at(place) : -1;
      if (mine <= price) return;
      from = place;
      price = mine;
    });
    const long long dearest = warp_max(price + 1) - 1;  // the reduction is of numbers >= 0
    if (dearest <= enough) return false;
    from = __reduce_min_sync(~0u, price == dearest ? from : kNone);
    // The lanes share the places: `tries` for each.
    const int tries = time_tries(end - begin);
    const int turn = lane_ % tries;
    const int rank_a = t_.place_rank[from];
    const DeviceCurve& a = c_.curve(rank_a);
    const int tokens = s_.take[from];
    const int steps = turn < tries - 1 ? max(c_.steps(a, tokens) - turn, 0) : 0;
    const int most_first = c_.end(a, steps);
    const long long part_a = c_.of_steps(a, steps);
    const long long price_a = with_constant(a, m_.cost[rank_a] - m_.part[from] + part_a);
    long long larger = kNever;
    long long sum = kNever;
    long long part_b = 0;
    int to = begin;
    for_all(begin + lane_ / tries, end, kWarpSize / tries, [&](int place) {
      const int rank_b = t_.place_rank[place];
      const DeviceCurve& b = c_.curve(rank_b);
      const int both = tokens + s_.take[place];
      const long long part = c_.of(b, both - min(most_first, both));
      const long long price_b = with_constant(b, m_.cost[rank_b] - m_.part[place] + part);
      const long long mine = max(price_a, price_b);
      if (place == from || !is_below(mine, price_a + price_b, larger, sum)) return;
      larger = mine;
      sum = price_a + price_b;
      part_b = part;
      to = place;
    });
    // The first of the best ones.
    const long long least = warp_min(larger);
    const long long least_sum = warp_min(larger == least ? sum : kNever);
    const bool is_best = larger == least && sum == least_sum;
    const int best = __reduce_min_sync(~0u, is_best ? (to - begin) * tries + turn : kNone);
    const bool is_mine = is_best && (to - begin) * tries + turn == best;
    const long long other = price_at(begin + best / tries);
    if (!is_below(least, least_sum, max(dearest, other), dearest + other)) return false;
    __syncwarp();  // all lanes have read what one of them now changes
    if (is_mine) {
      const int both = tokens + s_.take[to];
      put(from, to, min(most_first, both), both, part_a, part_b);
    }
    __syncwarp();
    return true;
  }

  DeviceCostTables c_;
  BlockTables t_;
  const BlockState& s_;
  const BlockTimeState& m_;
  int thread_, lane_, warp_;
};

}  // namespace lplb::solvers
