// SPDX-License-Identifier: MIT
#pragma once

#include "solve/device/cost_tables.cuh"
#include "solve/device/wide.cuh"
#include "solve/time/fast.h"

// The twin of fast.cc, for one warp, with the same result. Costs have 64 bits. What a place costs
// is kept beside what it takes, so that a table is read only where tokens change.
namespace lplb::solvers {

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
  static constexpr int kLanes = 8;  // that search for one division together

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
      LPLB_ROLLED
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

  // --- The cheaper of two splits, then moves.

  struct Price {
    long long most, sum;
    __device__ bool is_below(const Price& other) const {
      return most != other.most ? most < other.most : sum < other.sum;
    }
  };

  __device__ TimeOutcome divide(BlockOutcome* found) {
    const long long bound = find_bound();
    const long long near = bound + bound / kNearPart;
    const Price best = choose_split(near);
    // Move until the worst rank is near the bound, or no move helps.
    int moves = 0;
    LPLB_ROLLED
    for (; moves < kFastMoves; ++moves) {
      long long limit = 0;
      const int rank = worst(&limit);
      if (limit <= near || !move(rank, limit)) break;
    }
    found->steps = moves;
    if (moves == 0) return {best.most, bound};
    // With several worst ranks, moves may have made the split dearer, but the largest no smaller.
    const Price now = price();
    if (now.is_below(best)) return {now.most, bound};
    take_best();
    return {best.most, bound};
  }

  /// Leaves the cheaper of two splits in take, part and cost, and in best: the solver's and, if
  /// that is not `near` the bound, a greedy one of whole experts.
  __device__ Price choose_split(long long near) {
    add_parts();
    keep();
    const Price of_solver = price();
    if (of_solver.most <= near || least_with_whole_experts() > of_solver.most) return of_solver;
    put_greedily();
    const Price of_greedy = price();
    if (of_greedy.is_below(of_solver)) {
      keep();
      return of_greedy;
    }
    take_best();
    add_parts();
    return of_solver;
  }

  /// What a rank costs at least if every expert is whole: somewhere the most expensive one is.
  __device__ long long least_with_whole_experts() const {
    long long most = 0;
    for_all(t_.num_replicated, [&](int k) {
      long long least = kNever;
      LPLB_ROLLED
      for (int i = t_.place_begin[k]; i < t_.place_begin[k + 1]; ++i) {
        const int g = t_.place_rank[i];
        const long long price = c_.price_of(g, m_.fixed[g] + m_.whole[i]);
        least = price < least ? price : least;
      }
      most = least > most ? least : most;
    });
    return warp_max(most);
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

  /// What the places and the ranks cost, from what the places take.
  __device__ void add_parts() {
    for_all(num_places(), [&](int q) {
      const int i = t_.incident[q];
      const DeviceCurve& curve = c_.curve(t_.place_rank[i]);
      const auto cost = c_.of(curve, s_.take[i], curve, s_.want[t_.incident_owner[q]]);
      m_.part[i] = cost.first;
      m_.whole[i] = cost.second;
    });
    __syncwarp();
    add_costs();
  }

  /// What the ranks cost, from what the places cost.
  __device__ void add_costs() {
    for_all(t_.num_ranks, [&](int g) {
      long long sum = m_.fixed[g];
      LPLB_ROLLED
      for (int i = t_.incident_begin[g]; i < t_.incident_begin[g + 1]; ++i) {
        sum += m_.part[t_.incident[i]];
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
    long long fixed = 0;   // of all ranks
    long long proven = 0;  // of the ranks of the proof
    int ranks = 0;
    for_all(t_.num_live, [&](int i) {
      const int g = t_.live_rank[i];
      const long long price = c_.price_of(g, m_.fixed[g]);
      most = price > most ? price : most;
      fixed += m_.fixed[g];
      if (!has_bit(s_.proof, g)) return;
      proven += m_.fixed[g];
      ++ranks;
    });
    most = warp_max(most);
    if (!c_.has_least()) return most;
    for_all(t_.num_replicated, [&](int k) {
      bool is_confined = true;
      LPLB_ROLLED
      for (int i = t_.place_begin[k]; i < t_.place_begin[k + 1]; ++i) {
        is_confined = is_confined && has_bit(s_.proof, t_.place_rank[i]);
      }
      const long long least = c_.of(c_.least(), s_.want[k]);
      fixed += least;
      if (is_confined) proven += least;
    });
    const long long of_all = equal_price(fixed, t_.num_live);
    const long long of_proof = equal_price(proven, __reduce_add_sync(~0u, ranks));
    most = of_all > most ? of_all : most;
    return of_proof > most ? of_proof : most;
  }

  /// The price of a rank if `ranks` ranks share the costs of all lanes equally.
  __device__ long long equal_price(long long costs, int ranks) const {
    const long long sum = warp_sum(costs);
    return ranks == 0 ? 0 : c_.price_of(t_.live_rank[0], divide(sum + ranks - 1, ranks));
  }

  /// n / count for 0 <= n, in digits of 16 bits. A division of 64 bits takes ten times as long.
  __device__ long long divide(long long n, int count) const {
    long long quotient = 0;
    int rest = 0;
    LPLB_ROLLED
    for (int bits = 48; bits >= 0; bits -= 16) {
      const int digits = rest << 16 | static_cast<int>(n >> bits & 0xFFFF);
      const int digit = t_.divide(digits, count);
      rest = digits - digit * count;
      quotient = quotient << 16 | digit;
    }
    return quotient;
  }

  /// put_greedily() of the CPU: the experts of a colour at once.
  __device__ void put_greedily() {
    for_all(t_.num_ranks, [&](int g) { m_.cost[g] = m_.fixed[g]; });
    for_all(num_places(), [&](int i) {
      s_.take[i] = 0;
      m_.part[i] = 0;
    });
    __syncwarp();
    LPLB_ROLLED
    for (int c = 0; c < t_.num_colours; ++c) {
      const int begin = t_.colour_begin[c];
      for_all(t_.colour_begin[c + 1] - begin, [&](int k) { put_on_cheapest(begin + k); });
      __syncwarp();
    }
  }

  /// Expert k, which is nowhere yet, goes to where it is the cheapest. Four places at a time, so
  /// that their reads do not wait for each other. NOTE: if the model is uniform, the constant of a
  /// rank does not change which one is the cheapest.
  __device__ void put_on_cheapest(int k) {
    constexpr int kAtOnce = 4;
    const int end = t_.place_begin[k + 1];
    int best = t_.place_begin[k];
    long long best_price = kNever;
    LPLB_ROLLED
    for (int first = best; first < end; first += kAtOnce) {
      int rank[kAtOnce];
      long long price[kAtOnce];
#pragma unroll
      for (int j = 0; j < kAtOnce; ++j) {
        const int i = min(first + j, end - 1);
        rank[j] = t_.place_rank[i];
        price[j] = m_.cost[rank[j]] + m_.whole[i];
      }
#pragma unroll
      for (int j = 0; j < kAtOnce; ++j) {
        if (!c_.has_least()) price[j] = c_.price_of(rank[j], price[j]);
        if (first + j >= end || price[j] >= best_price) continue;
        best = first + j;
        best_price = price[j];
      }
    }
    put(best, s_.want[k], m_.whole[best]);
  }

  /// Place i takes `tokens`, which cost `part` there.
  __device__ void put(int i, int tokens, long long part) {
    m_.cost[t_.place_rank[i]] += part - m_.part[i];
    m_.part[i] = part;
    s_.take[i] = tokens;
  }

  // --- Moves of one expert: Search::move_one() of the CPU.

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
    *most = warp_max(mine < 0 ? 0 : mine);
    return __reduce_min_sync(~0u, mine == *most ? rank : 0x7FFFFFFF);
  }

  /// What a lane knows of dividing the tokens of places `from` and `to`: the two parts, the larger
  /// price of the two ranks and the sum of both, and when the CPU would come to it.
  struct Move {
    long long largest = kNever, sum = kNever;
    int order = 0x7FFFFFFF;
    int from = 0, to = 0, keep = 0, give = 0;
    long long part_from = 0, part_to = 0;
  };

  /// Moves tokens of the one expert that helps most from `rank`, the worst, to another, so that
  /// both cost less than `limit`. Returns false if none does. kLanes lanes together find the best
  /// division of an expert between two places.
  __device__ bool move(int rank, long long limit) {
    const int begin = t_.incident_begin[rank];
    const int count = (t_.incident_begin[rank + 1] - begin) * (t_.most_places - 1);
    Move best;
    LPLB_ROLLED
    for (int first = 0; first < count; first += kWarpSize / kLanes) {
      try_division(rank, begin, first + lane_ / kLanes, count, limit, &best);
    }
    // The first of the best ones.
    const long long largest = warp_min(best.largest);
    if (largest == kNever) return false;
    const long long sum = warp_min(best.largest == largest ? best.sum : kNever);
    const bool is_best = best.largest == largest && best.sum == sum;
    const int order = __reduce_min_sync(~0u, is_best ? best.order : 0x7FFFFFFF);
    __syncwarp();  // all lanes have read what one of them now changes
    if (is_best && best.order == order) {
      put(best.from, best.keep, best.part_from);
      put(best.to, best.give, best.part_to);
    }
    __syncwarp();
    return true;
  }

  /// Improves `best` by division number `at` of `count`: of the expert of the rank's place number
  /// at / (most_places - 1), with the place number at % (most_places - 1) of its other places.
  /// Lanes with other numbers take part.
  __device__ void try_division(int rank, int begin, int at, int count, long long limit,
                               Move* best) const {
    // Which places, and what their ranks cost without them.
    const int safe = min(at, count - 1);
    const int others = t_.most_places - 1;
    const int q = begin + safe / others;
    const int a = t_.incident[q];
    const int k = t_.incident_owner[q];
    const int number = t_.place_begin[k] + safe % others;
    const int b = number + (number >= a ? 1 : 0);
    const bool exists = at < count && b < t_.place_begin[k + 1] && s_.take[a] > 0;
    const int to = exists ? b : a;
    const int other = t_.place_rank[to];
    const DeviceCurve& curve_a = c_.curve(rank);
    const DeviceCurve& curve_b = c_.curve(other);
    const long long rest_a = m_.cost[rank] - m_.part[a];
    const long long rest_b = m_.cost[other] - m_.part[to];
    const bool helps = exists && rest_b + 1 + curve_b.rank < limit;
    const int tokens = helps ? s_.take[a] + s_.take[to] : 0;
    // Search for the least number of tokens at which the first price reaches the second. Each lane
    // tries one of kLanes numbers.
    const int lane = lane_ % kLanes;
    int low = 0;
    int high = tokens;
    LPLB_ROLLED
    while (__any_sync(~0u, low < high)) {
      // The kLanes numbers divide what is left into kLanes + 1 parts.
      const int each = (high - low) / (kLanes + 1);
      const int rest = (high - low) - each * (kLanes + 1);
      const auto tried = [&](int i) { return low + each * (i + 1) + min(i + 1, rest) - 1; };
      const int mine = low < high ? tried(lane) : low;
      const auto part = c_.of(curve_a, mine, curve_b, tokens - mine);
      const long long first = with_constant(curve_a, rest_a + part.first);
      const long long second = with_constant(curve_b, rest_b + part.second);
      const unsigned below = __ballot_sync(~0u, low < high && first < second);
      const int passed = __popc(below >> (lane_ - lane) & ((1u << kLanes) - 1));
      if (low < high) {
        const int next_low = passed > 0 ? tried(passed - 1) + 1 : low;
        high = passed < kLanes ? tried(passed) : high;
        low = next_low;
      }
    }
    // There, or one token before.
    const int keep = low - lane;
    if (!helps || lane > 1 || keep < 0) return;
    const auto part = c_.of(curve_a, keep, curve_b, tokens - keep);
    const long long first = with_constant(curve_a, rest_a + part.first);
    const long long second = with_constant(curve_b, rest_b + part.second);
    const long long largest = first > second ? first : second;
    if (largest >= limit || largest > best->largest ||
        (largest == best->largest && first + second >= best->sum)) {
      return;
    }
    *best = {largest, first + second, 2 * at + lane, a,          to,
             keep,    tokens - keep,  part.first,    part.second};
  }

  __device__ static long long with_constant(const DeviceCurve& curve, long long parts) {
    return parts == 0 ? 0 : parts + curve.rank;
  }

  /// Sets rank_load; returns the largest.
  __device__ int add_tokens() {
    int most = 0;
    for_all(t_.num_ranks, [&](int g) {
      int sum = m_.fixed_tokens[g];
      LPLB_ROLLED
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
