// SPDX-License-Identifier: MIT
#pragma once

#include "solve/device/cost_tables.cuh"
#include "solve/device/wide.cuh"
#include "solve/time/fast.h"

namespace lplb::solvers {

/// FastTime::level() of fast.cc, for a warp. A warp waits for each of its instructions, so their
/// number decides: costs have 32 bits if those of the batch allow it, and what places and ranks
/// cost is kept beside what they take, so that tables are read only where tokens change. Cost: int
/// if no rank has more tokens than DeviceCostTables::narrow_load(), or long long.
template <class Cost>
class CostLevels {
 public:
  __device__ __forceinline__ CostLevels(const DeviceCostTables& costs, const BlockTables& tables,
                                        const BlockState& state, const BlockTimeState& time)
      : c_(costs),
        t_(tables),
        s_(state),
        m_(time),
        price_(reinterpret_cast<Cost*>(time.price)),
        part_(reinterpret_cast<Cost*>(time.part)),
        lane_(static_cast<int>(threadIdx.x) % kWarpSize) {}

  /// An expert with two places, and for each lane what these take and cost if the first one takes a
  /// number of steps. It depends on no other expert, so a warp can have it before its turn.
  struct Pair {
    int place = 0, rank_a = 0, rank_b = 0;
    int last = 0;   // the last lane with a number of its own
    int first = 0;  // tokens of the first place
    int both = 0;
    Cost part_a = 0, part_b = 0;
    Cost constant_a = 0, constant_b = 0;  // of the ranks
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

  /// Needs the window of expert k.
  __device__ __forceinline__ Pair pair_of(int k) const {
    Pair p;
    p.place = t_.place_begin[k];
    p.rank_a = t_.place_rank[p.place];
    p.rank_b = t_.place_rank[p.place + 1];
    const DeviceCurve& a = c_.curve(p.rank_a);
    const DeviceCurve& b = c_.curve(p.rank_b);
    const int2 window = m_.window[k];
    p.both = s_.want[k];
    p.last = min(window.y - window.x, kWarpSize - 1);
    const int steps = min(window.x + lane_, window.y);
    p.first = steps < window.y ? c_.end(a, steps) : p.both;
    p.part_a = c_.of_steps<Cost>(a, steps);
    p.part_b = c_.of<Cost>(b, p.both - p.first);
    p.constant_a = constant(a);
    p.constant_b = constant(b);
    return p;
  }

  /// Whether a rank of the two places from `place` on costs more than `enough`.
  __device__ __forceinline__ bool is_above(int place, Cost enough) const {
    return max(price_at(place), price_at(place + 1)) > enough;
  }

  /// Levels the expert if a rank of it costs more than `enough`.
  __device__ __forceinline__ void level_pair(const Pair& p, Cost enough) const {
    const Cost now_a = price_[p.rank_a];
    const Cost now_b = price_[p.rank_b];
    const Cost rest_a = c_.without_constant(p.constant_a, now_a) - part_[p.place];
    const Cost rest_b = c_.without_constant(p.constant_b, now_b) - part_[p.place + 1];
    const int took = s_.take[p.place];
    const Cost larger_now = max(now_a, now_b);
    const Cost price_a = c_.with_constant(p.constant_a, rest_a + p.part_a);
    const Cost price_b = c_.with_constant(p.constant_b, rest_b + p.part_b);
    const Cost larger = max(price_a, price_b);
    const Cost sum = price_a + price_b;
    // The least number at which the first price reaches the second, or the last; the one before may
    // be better.
    const int crossing = __popc(__ballot_sync(~0u, lane_ < p.last && price_a < price_b));
    const Cost next_larger = __shfl_down_sync(~0u, larger, 1);
    const Cost next_sum = __shfl_down_sync(~0u, sum, 1);
    const unsigned better = __ballot_sync(~0u, is_below(larger, sum, next_larger, next_sum));
    const int best = crossing - (crossing > 0 ? static_cast<int>(better >> (crossing - 1) & 1) : 0);
    __syncwarp();  // all lanes have read what one of them now changes
    // NOTE: `enough` is asked for last, because an early return would part the reads.
    if (lane_ == best && larger_now > enough && is_below(larger, sum, larger_now, now_a + now_b)) {
      put({p.place, p.place + 1, p.rank_a, p.rank_b, took, p.first, p.both, p.part_a, p.part_b,
           price_a, price_b});
    }
  }

  /// The same for an expert with places [begin, end), more than two.
  __device__ __forceinline__ void level_many(int begin, int end, Cost enough) const {
    LPLB_ROLLED
    for (int i = 0; i < kTimeDivisions; ++i) {
      if (!divide_dearest(begin, end, enough)) break;
    }
  }

  /// Whether this lane finds a place of [begin, end) that can take tokens of place `from`, so that
  /// both ranks cost less than `worst`: FastTime::can_be_helped().
  __device__ __forceinline__ bool helps(int from, int begin, int end, Cost worst) const {
    constexpr int kBits = 2;
    static_assert(kTimeHelps == 1 << kBits);
    const int turn = lane_ % kTimeHelps;
    const Giver giver = giver_of(from, turn + 1, turn == kTimeHelps - 1);
    bool helps = false;
    for_all(lane_ >> kBits, end - begin - 1, kWarpSize >> kBits, [&](int i) {
      const int to = begin + i + (begin + i >= from ? 1 : 0);
      helps |= max(giver.price, taker_of(to, giver).price) < worst;
    });
    return helps;
  }

 private:
  static constexpr int kNone = 0x7FFFFFFF;
  static constexpr Cost kNever =
      static_cast<Cost>(sizeof(Cost) == 4 ? 0x7FFFFFFF : 0x7FFFFFFFFFFFFFFF);
  static_assert(kTimeLanes == kWarpSize);

  template <class Body>
  __device__ __forceinline__ static void for_all(int begin, int count, int step, Body body) {
    LPLB_ROLLED
    for (int i = begin; i < count; i += step) body(i);
  }

  __device__ __forceinline__ static Cost constant(const DeviceCurve& curve) {
    return DeviceCostTables::constant<Cost>(curve);
  }
  __device__ __forceinline__ Cost price_at(int place) const { return price_[t_.place_rank[place]]; }
  __device__ __forceinline__ static bool is_below(Cost larger, Cost sum, Cost other_larger,
                                                  Cost other_sum) {
    return larger != other_larger ? larger < other_larger : sum < other_sum;
  }

  /// What two places take and cost, and their ranks a and b.
  struct Division {
    int from, to, rank_a, rank_b;
    int took;         // tokens that `from` took
    int first, both;  // it takes `first` of `both`
    Cost part_a, part_b, price_a, price_b;
  };
  __device__ __forceinline__ void put(const Division& d) const {
    price_[d.rank_a] = d.price_a;
    price_[d.rank_b] = d.price_b;
    part_[d.from] = d.part_a;
    part_[d.to] = d.part_b;
    s_.take[d.from] = d.first;
    s_.take[d.to] = d.both - d.first;
    atomicAdd(&s_.rank_load[d.rank_a], d.first - d.took);
    atomicAdd(&s_.rank_load[d.rank_b], d.took - d.first);
  }

  /// What a place and its rank cost if it keeps some of its steps, for each lane another number.
  struct Giver {
    int rank;
    int tokens;  // that it has
    int keeps;   // tokens that it keeps at most
    Cost part, price;
  };
  /// It keeps all but the last `less` steps that it has begun, or with `is_all` none.
  __device__ __forceinline__ Giver giver_of(int place, int less, bool is_all) const {
    const int rank = t_.place_rank[place];
    const DeviceCurve& curve = c_.curve(rank);
    const int tokens = s_.take[place];
    const int steps = is_all ? 0 : max(c_.steps(curve, tokens) - less, 0);
    const Cost part = c_.of_steps<Cost>(curve, steps);
    const Cost rest = c_.without_constant(constant(curve), price_[rank]) - part_[place];
    return {rank, tokens, c_.end(curve, steps), part,
            c_.with_constant(constant(curve), rest + part)};
  }

  /// What another place and its rank then cost.
  struct Taker {
    int rank;
    Cost part, price;
  };
  __device__ __forceinline__ Taker taker_of(int place, const Giver& giver) const {
    const int rank = t_.place_rank[place];
    const DeviceCurve& curve = c_.curve(rank);
    const int both = giver.tokens + s_.take[place];
    const Cost part = c_.of<Cost>(curve, both - min(giver.keeps, both));
    const Cost rest = c_.without_constant(constant(curve), price_[rank]) - part_[place];
    return {rank, part, c_.with_constant(constant(curve), rest + part)};
  }

  /// Divides the tokens of two places, if that is better. Returns whether it was.
  __device__ __forceinline__ bool divide_dearest(int begin, int end, Cost enough) const {
    int from = kNone;
    Cost price = -1;
    for_all(begin + lane_, end, kWarpSize, [&](int place) {
      const Cost mine = s_.take[place] > 0 ? price_at(place) : -1;
      if (mine <= price) return;
      from = place;
      price = mine;
    });
    const Cost dearest = warp_max(price + 1) - 1;  // the reduction is of numbers >= 0
    if (dearest <= enough) return false;
    from = __reduce_min_sync(~0u, price == dearest ? from : kNone);
    // The lanes share the other places: 2^bits numbers of steps for each.
    const int bits = time_try_bits(end - begin);
    const int turn = lane_ & ((1 << bits) - 1);
    const Giver giver = giver_of(from, turn, turn == (1 << bits) - 1);
    Taker taker{giver.rank, 0, 0};
    Cost larger = kNever;
    Cost sum = kNever;
    int to = begin;
    int number = kNone;
    for_all(lane_ >> bits, end - begin - 1, kWarpSize >> bits, [&](int i) {
      const int place = begin + i + (begin + i >= from ? 1 : 0);
      const Taker other = taker_of(place, giver);
      const Cost larger_of_both = max(giver.price, other.price);
      if (!is_below(larger_of_both, giver.price + other.price, larger, sum)) return;
      taker = other;
      larger = larger_of_both;
      sum = giver.price + other.price;
      to = place;
      number = i << bits | turn;
    });
    // The first of the best ones.
    const Cost least = warp_min(larger);
    const Cost least_sum = warp_min(larger == least ? sum : kNever);
    const bool is_best = larger == least && sum == least_sum;
    const int best = __reduce_min_sync(~0u, is_best ? number : kNone);
    const Cost now = price_[taker.rank];
    const bool is_put = number == best && is_below(larger, sum, max(dearest, now), dearest + now);
    const bool is_any = __any_sync(~0u, is_put);
    __syncwarp();  // all lanes have read what one of them now changes
    if (is_put) {
      const int both = giver.tokens + s_.take[to];
      put({from, to, giver.rank, taker.rank, giver.tokens, min(giver.keeps, both), both, giver.part,
           taker.part, giver.price, taker.price});
    }
    __syncwarp();
    return is_any;
  }

  DeviceCostTables c_;
  BlockTables t_;
  const BlockState& s_;
  const BlockTimeState& m_;
  Cost* price_;
  Cost* part_;
  int lane_;
};

}  // namespace lplb::solvers
