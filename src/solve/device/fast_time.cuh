// SPDX-License-Identifier: MIT
#pragma once

#include "solve/device/cost_tables.cuh"
#include "solve/time/fast.h"

// The twin of fast.cc, for one warp, step by step the same. Costs have 64 bits.
namespace lplb::solvers {

/// The largest value of all lanes.
__device__ inline long long warp_max(long long value) {
  for (int bits = kWarpSize / 2; bits > 0; bits /= 2) {
    const long long other = __shfl_xor_sync(~0u, value, bits);
    value = other > value ? other : value;
  }
  return value;
}
__device__ inline long long warp_min(long long value) { return -warp_max(-value); }
__device__ inline long long warp_sum(long long value) {
  for (int bits = kWarpSize / 2; bits > 0; bits /= 2) value += __shfl_xor_sync(~0u, value, bits);
  return value;
}

struct TimeOutcome {
  long long max_cost;
  long long bound;  ///< no split costs less
};

class BlockFastTime {
 public:
  __device__ BlockFastTime(const unsigned char* image, const DeviceTablesHeader& h,
                           const BlockState& state, const BlockTimeState& time, int lane)
      : c_(image, h), t_(image, h), s_(state), m_(time), lane_(lane) {}

  /// Replaces the solver's split, with `found` as its outcome, by that of the least cost. All lanes
  /// of one warp call it. `is_units`: the solver had 1 for each active expert in place of its
  /// tokens, because none passes the first step. `found` is of tokens afterwards, and is_optimal of
  /// the cost.
  __device__ TimeOutcome run(bool is_units, BlockOutcome* found) {
    const TimeOutcome out = is_units ? take_units(found) : divide(found);
    found->max_load = add_tokens();
    found->is_optimal = out.max_cost <= out.bound ? 1 : 0;
    return out;
  }

 private:
  static constexpr long long kNever = 0x7FFFFFFFFFFFFFFF;

  template <class Body>
  __device__ void for_all(int count, Body body) const {
    LPLB_ROLLED
    for (int i = lane_; i < count; i += kWarpSize) body(i);
  }

  // --- One token for each expert.

  __device__ TimeOutcome take_units(BlockOutcome* found) {
    int total = 0;
    for_all(t_.num_replicated, [&](int k) {
      total += m_.want[k];
      for (int i = t_.place_begin[k]; i < t_.place_begin[k + 1]; ++i) s_.take[i] *= m_.want[k];
    });
    const int rank = t_.live_rank[0];
    const long long step = c_.first_cost(c_.curve(rank));
    const TimeOutcome out{c_.price_of(rank, found->max_load * step),
                          c_.price_of(rank, found->bound * step)};
    int most_fixed = 0;
    for_all(t_.num_ranks, [&](int g) {
      total += m_.fixed_tokens[g];
      most_fixed = max(most_fixed, m_.fixed_tokens[g]);
    });
    total = __reduce_add_sync(~0u, total);
    const int equal = static_cast<int>((static_cast<unsigned>(total) + t_.num_live - 1) /
                                       static_cast<unsigned>(t_.num_live));
    found->bound = max(equal, __reduce_max_sync(~0u, most_fixed));
    found->steps = 0;
    __syncwarp();
    return out;
  }

  // --- The best of four splits, then moves.

  struct Price {
    long long most, sum;
    __device__ bool is_below(const Price& other) const {
      return most != other.most ? most < other.most : sum < other.sum;
    }
  };

  __device__ TimeOutcome divide(BlockOutcome* found) {
    const long long bound = find_bound();
    add_costs();
    Price best = price();
    keep();
    const auto try_split = [&] {
      const Price now = price();
      if (!now.is_below(best)) return;
      best = now;
      keep();
    };
    put_homes();
    add_costs();
    try_split();
    put_evenly();
    add_costs();
    try_split();
    put_greedily();
    try_split();
    take_best();
    add_costs();
    const long long near = bound + bound / kNearPart;
    int moves = 0;
    Price now = best;
    LPLB_ROLLED
    for (; moves < kFastMoves && now.most > near; ++moves) {
      if (!move()) break;
      now = price();
    }
    found->steps = moves;
    // With several worst ranks, moves may have made the split dearer, but the largest no smaller.
    if (now.is_below(best)) return {now.most, bound};
    if (moves > 0) take_best();
    return {best.most, bound};
  }

  __device__ int num_places() const { return t_.place_begin[t_.num_replicated]; }

  __device__ void keep() {
    for_all(num_places(), [&](int i) { m_.best[i] = s_.take[i]; });
    __syncwarp();
  }

  __device__ void take_best() {
    for_all(num_places(), [&](int i) { s_.take[i] = m_.best[i]; });
    __syncwarp();
  }

  /// The parts of each rank, from what its places take.
  __device__ void add_costs() {
    for_all(t_.num_ranks, [&](int g) {
      long long sum = m_.fixed[g];
      const DeviceCurve& curve = c_.curve(g);
      for (int i = t_.incident_begin[g]; i < t_.incident_begin[g + 1]; ++i) {
        sum += c_.of(curve, s_.take[t_.incident[i]]);
      }
      m_.cost[g] = sum;
    });
    __syncwarp();
  }

  __device__ Price price() const {
    Price p{0, 0};
    for_all(t_.num_ranks, [&](int g) {
      const long long price = c_.price_of(g, m_.cost[g]);
      p.most = price > p.most ? price : p.most;
      p.sum += price;
    });
    return {warp_max(p.most), warp_sum(p.sum)};
  }

  /// The largest of what a rank's fixed experts cost, and of what the experts of all ranks, and of
  /// those that prove the bound of the tokens, cost at least, shared equally.
  __device__ long long find_bound() {
    long long most = 0;
    for_all(t_.num_ranks, [&](int g) {
      const long long price = c_.price_of(g, m_.fixed[g]);
      most = price > most ? price : most;
    });
    most = warp_max(most);
    if (!c_.has_least()) return most;
    for (const bool all : {true, false}) {
      const long long price = equal_price(all);
      most = price > most ? price : most;
    }
    return most;
  }

  __device__ long long equal_price(bool all) {
    long long sum = 0;
    int ranks = 0;
    for_all(t_.num_live, [&](int i) {
      const int g = t_.live_rank[i];
      if (!all && !has_bit(s_.proof, g)) return;
      sum += m_.fixed[g];
      ++ranks;
    });
    const int first = t_.live_rank[0];
    for_all(t_.num_replicated, [&](int k) {
      bool is_confined = true;
      for (int i = t_.place_begin[k]; i < t_.place_begin[k + 1]; ++i) {
        is_confined = is_confined && (all || has_bit(s_.proof, t_.place_rank[i]));
      }
      if (is_confined) sum += c_.least_of(s_.want[k]);
    });
    sum = warp_sum(sum);
    ranks = __reduce_add_sync(~0u, ranks);
    return ranks == 0 ? 0 : c_.price_of(first, (sum + ranks - 1) / ranks);
  }

  __device__ void put_homes() {
    for_all(t_.num_replicated, [&](int k) {
      for (int i = t_.place_begin[k]; i < t_.place_begin[k + 1]; ++i) {
        s_.take[i] = i == t_.place_begin[k] ? s_.want[k] : 0;
      }
    });
    __syncwarp();
  }

  __device__ void put_evenly() {
    for_all(t_.num_replicated, [&](int k) {
      int slots = 0;
      for (int i = t_.place_begin[k]; i < t_.place_begin[k + 1]; ++i) slots += c_.place_slots[i];
      const int each = s_.want[k] / slots;
      const int extra = s_.want[k] % slots;
      int turn = (slots - c_.logical[k] % slots) % slots;  // of the first slot
      for (int i = t_.place_begin[k]; i < t_.place_begin[k + 1]; ++i) {
        int tokens = 0;
        for (int j = 0; j < c_.place_slots[i]; ++j) {
          tokens += each + (turn < extra ? 1 : 0);
          turn = turn + 1 == slots ? 0 : turn + 1;
        }
        s_.take[i] = tokens;
      }
    });
    __syncwarp();
  }

  /// put_greedily() and put_again(): the experts of a colour at once.
  __device__ void put_greedily() {
    for_all(t_.num_ranks, [&](int g) { m_.cost[g] = m_.fixed[g]; });
    for_all(num_places(), [&](int i) { s_.take[i] = 0; });
    __syncwarp();
    LPLB_ROLLED
    for (int colour = 0; colour < 2 * t_.num_colours; ++colour) {
      const int c = colour < t_.num_colours ? colour : colour - t_.num_colours;
      const int begin = t_.colour_begin[c];
      for_all(t_.colour_begin[c + 1] - begin, [&](int k) { put_on_cheapest(begin + k); });
      __syncwarp();
    }
  }

  __device__ void put_on_cheapest(int k) {
    int best = t_.place_begin[k];
    long long best_price = kNever;
    LPLB_ROLLED
    for (int i = t_.place_begin[k]; i < t_.place_begin[k + 1]; ++i) {
      const int g = t_.place_rank[i];
      const DeviceCurve& curve = c_.curve(g);
      const long long rest = m_.cost[g] - c_.of(curve, s_.take[i]);
      m_.cost[g] = rest;
      s_.take[i] = 0;
      const long long price = c_.price_of(g, rest + c_.of(curve, s_.want[k]));
      if (price >= best_price) continue;
      best = i;
      best_price = price;
    }
    const int g = t_.place_rank[best];
    m_.cost[g] += c_.of(g, s_.want[k]);
    s_.take[best] = s_.want[k];
  }

  // --- Moves of one expert: Search::move_one() of the CPU.

  struct Move {
    long long largest = kNever, sum = kNever;
    int from = 0, to = 0, keep = 0;
  };

  /// The rank with the largest price; of several, the lowest.
  __device__ int worst(long long* most) const {
    long long mine = -1;
    int rank = 0;
    for_all(t_.num_live, [&](int i) {
      const int g = t_.live_rank[i];
      const long long price = c_.price_of(g, m_.cost[g]);
      if (price <= mine) return;
      mine = price;
      rank = g;
    });
    *most = warp_max(mine);
    return __reduce_min_sync(~0u, mine == *most ? rank : 0x7FFFFFFF);
  }

  /// Moves tokens of the one expert that helps most from the worst rank to another. Returns false
  /// if none does.
  __device__ bool move() {
    long long limit = 0;
    const int rank = worst(&limit);
    Move best;
    int best_at = 0x7FFFFFFF;
    LPLB_ROLLED
    for (int q = t_.incident_begin[rank] + lane_; q < t_.incident_begin[rank + 1]; q += kWarpSize) {
      const Move move = best_of(t_.incident[q], t_.incident_owner[q], rank, limit);
      if (move.largest > best.largest || (move.largest == best.largest && move.sum >= best.sum)) {
        continue;
      }
      best = move;
      best_at = q;
    }
    // The first of the best ones.
    const long long largest = warp_min(best.largest);
    if (largest == kNever) return false;
    const long long sum = warp_min(best.largest == largest ? best.sum : kNever);
    const bool is_best = best.largest == largest && best.sum == sum;
    const int at = __reduce_min_sync(~0u, is_best ? best_at : 0x7FFFFFFF);
    __syncwarp();  // all lanes have read what one of them now changes
    if (best_at == at) apply(best);
    __syncwarp();
    return true;
  }

  __device__ void apply(const Move& move) {
    const int both = s_.take[move.from] + s_.take[move.to];
    change(move.from, move.keep);
    change(move.to, both - move.keep);
  }

  __device__ void change(int place, int tokens) {
    const int g = t_.place_rank[place];
    m_.cost[g] += c_.of(g, tokens) - c_.of(g, s_.take[place]);
    s_.take[place] = tokens;
  }

  /// The best move from place `a` of expert k on `rank` that ends below `limit`.
  __device__ Move best_of(int a, int k, int rank, long long limit) const {
    Move best;
    if (s_.take[a] == 0) return best;
    const DeviceCurve& curve_a = c_.curve(rank);
    const long long rest_a = m_.cost[rank] - c_.of(curve_a, s_.take[a]);
    LPLB_ROLLED
    for (int b = t_.place_begin[k]; b < t_.place_begin[k + 1]; ++b) {
      if (b == a) continue;
      const int other = t_.place_rank[b];
      const DeviceCurve& curve_b = c_.curve(other);
      const int tokens = s_.take[a] + s_.take[b];
      const long long rest_b = m_.cost[other] - c_.of(curve_b, s_.take[b]);
      if (c_.price_of(other, rest_b + 1) >= limit) continue;
      const auto price_a = [&](int n) { return c_.price_of(rank, rest_a + c_.of(curve_a, n)); };
      const auto price_b = [&](int n) {
        return c_.price_of(other, rest_b + c_.of(curve_b, tokens - n));
      };
      int low = 0;
      int high = tokens;
      while (low < high) {
        const int middle = low + (high - low) / 2;
        if (price_a(middle) < price_b(middle)) {
          low = middle + 1;
        } else {
          high = middle;
        }
      }
      // Where they cross, or one token before.
      Move move{kNever, kNever, a, b, 0};
      for (int n = low; n >= 0 && n >= low - 1; --n) {
        const long long first = price_a(n);
        const long long second = price_b(n);
        const long long largest = first > second ? first : second;
        if (largest > move.largest || (largest == move.largest && first + second >= move.sum)) {
          continue;
        }
        move = {largest, first + second, a, b, n};
      }
      if (move.largest >= limit) continue;
      if (move.largest < best.largest || (move.largest == best.largest && move.sum < best.sum)) {
        best = move;
      }
    }
    return best;
  }

  /// Sets rank_load; returns the largest.
  __device__ int add_tokens() {
    int most = 0;
    for_all(t_.num_ranks, [&](int g) {
      int sum = m_.fixed_tokens[g];
      for (int i = t_.incident_begin[g]; i < t_.incident_begin[g + 1]; ++i) {
        sum += s_.take[t_.incident[i]];
      }
      s_.rank_load[g] = sum;
      most = max(most, sum);
    });
    most = __reduce_max_sync(~0u, most);
    __syncwarp();
    return most;
  }

  DeviceCostTables c_;
  BlockTables t_;
  const BlockState& s_;
  const BlockTimeState& m_;
  int lane_;
};

}  // namespace lplb::solvers
