// SPDX-License-Identifier: MIT
#pragma once

#include "solve/device/block.cuh"

// What a kernel that splits by costs keeps in shared memory: the batch's costs, and the curves.
namespace lplb::solvers {

/// What a batch's costs need in shared memory besides BlockState. The caller fills the first block.
struct BlockTimeState {
  int* want;          // in: [K]: BlockState::want, which units replace
  int* fixed_tokens;  // in: [num_ranks]: BlockState::fixed, which they replace too
  int* active;        // in: [num_ranks]: fixed experts with tokens
  long long* fixed;   // in: [num_ranks]: what the fixed experts cost
  long long* cost;    // [num_ranks]: the parts of a rank
  long long* part;    // [num_places]: what a place costs
  long long* whole;   // [num_places]: the same if it takes all tokens of its expert
  int* best;          // [num_places]

  LPLB_HOST_DEVICE static int bytes(const DeviceTablesHeader& h) {
    return 16 * (h.num_ranks + h.num_places) +
           4 * (h.num_replicated + 2 * h.num_ranks + h.num_places);
  }

  /// `memory` must be aligned to 8 bytes.
  __device__ static BlockTimeState carve(unsigned char* memory, const DeviceTablesHeader& h) {
    BlockTimeState s;
    s.fixed = reinterpret_cast<long long*>(memory);
    s.cost = s.fixed + h.num_ranks;
    s.part = s.cost + h.num_ranks;
    s.whole = s.part + h.num_places;
    s.want = reinterpret_cast<int*>(s.whole + h.num_places);
    s.fixed_tokens = s.want + h.num_replicated;
    s.active = s.fixed_tokens + h.num_ranks;
    s.best = s.active + h.num_ranks;
    return s;
  }
};

/// The curves in shared memory.
class DeviceCostTables {
 public:
  __device__ DeviceCostTables(const unsigned char* image, const DeviceTablesHeader& h)
      : costs_(*reinterpret_cast<const DeviceCosts*>(image + h.costs)),
        curve_of_(reinterpret_cast<const std::uint16_t*>(image + costs_.curve_of)),
        curves_(reinterpret_cast<const DeviceCurve*>(image + costs_.curves)),
        step_tokens_(reinterpret_cast<const std::int32_t*>(image + costs_.step_tokens)),
        step_cost_(reinterpret_cast<const std::int64_t*>(image + costs_.step_cost)) {}

  __device__ int one_step() const { return costs_.one_step; }
  __device__ bool has_least() const { return costs_.least >= 0; }
  __device__ const DeviceCurve& least() const { return curves_[costs_.least]; }
  __device__ const DeviceCurve& curve(int rank) const { return curves_[curve_of_[rank]]; }
  __device__ long long first_cost(const DeviceCurve& c) const { return step_cost_[c.begin]; }

  struct Two {
    long long first, second;
  };

  /// CostCurve::of() of two curves. NOTE: a call, because code takes long to fetch; and two at
  /// once, because the reads of one hide those of the other.
  __device__ __noinline__ Two of(const DeviceCurve& first, int n, const DeviceCurve& second,
                                 int m) const {
    const DeviceCurve a = first;
    const DeviceCurve b = second;
    // The first step that has room for the tokens, or the last one.
    int i = a.begin;
    int j = b.begin;
    LPLB_ROLLED
    for (int left_a = a.num_steps, left_b = b.num_steps; left_a > 1 || left_b > 1;) {
      const int half_a = left_a / 2;
      const int half_b = left_b / 2;
      const int room_a = step_tokens_[max(i + half_a - 1, 0)];
      const int room_b = step_tokens_[max(j + half_b - 1, 0)];
      i += room_a < n ? half_a : 0;
      j += room_b < m ? half_b : 0;
      left_a -= half_a;
      left_b -= half_b;
    }
    return {cost_at(a, i, n), cost_at(b, j, m)};
  }
  __device__ long long of(const DeviceCurve& c, int tokens) const {
    return of(c, tokens, c, 0).first;
  }

  /// TimeState::price_of() of the CPU
  __device__ long long price_of(int rank, long long parts) const {
    return parts == 0 ? 0 : parts + curve(rank).rank;
  }

 private:
  /// What tokens cost, of which step `step` is the first that has room, or the last one.
  __device__ long long cost_at(const DeviceCurve& c, int step, int tokens) const {
    const int beyond = tokens - c.last_tokens;
    const int more = BlockTables::divide_by_few(max(beyond - 1, 0), c.then_every, c.reciprocal) + 1;
    const long long cost = step_cost_[step] + (beyond > 0 ? more * c.then_cost : 0);
    return tokens > 0 ? cost : 0;
  }

  const DeviceCosts& costs_;
  const std::uint16_t* curve_of_;
  const DeviceCurve* curves_;
  const std::int32_t* step_tokens_;
  const std::int64_t* step_cost_;
};

}  // namespace lplb::solvers
