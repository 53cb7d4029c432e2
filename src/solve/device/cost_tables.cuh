// SPDX-License-Identifier: MIT
#pragma once

#include "solve/device/block.cuh"

// What a kernel that splits by costs keeps in shared memory: the batch's costs, and the curves.
namespace lplb::solvers {

/// A sum >= 0 that several threads add to. NOTE: the hardware adds 32 bits to shared memory at
/// once; an atomicAdd() of 64 bits is a loop in which threads wait for each other.
struct alignas(8) WideSum {
  unsigned low, high;

  __device__ void add(long long value) {
    const auto value_low = static_cast<unsigned>(value);
    const unsigned before = atomicAdd(&low, value_low);
    const unsigned carry = before + value_low < before ? 1 : 0;
    const unsigned more = static_cast<unsigned>(value >> 32) + carry;
    if (more != 0) atomicAdd(&high, more);
  }
  __device__ long long value() const { return static_cast<long long>(high) << 32 | low; }
};

/// What a batch's costs need in shared memory besides BlockState. The caller fills the first block.
struct BlockTimeState {
  /// What a warp adds to the bound.
  struct Least {
    long long most, all, proven;
  };

  int* want;          // in: [K]: BlockState::want, which units replace
  int* fixed_tokens;  // in: [num_ranks]: BlockState::fixed, which they replace too
  int* active;        // in: [num_ranks]: fixed experts with tokens
  WideSum* fixed;     // in: [num_ranks]: what the fixed experts cost
  long long* price;   // [num_ranks]: what a rank costs. CostSweeps<int> has its numbers here too
  long long* part;    // [num_places]: what a place costs, in the same way
  int2* window;       // [K]: the first number of steps that is tried, and how many are all
  Least* least;       // [kTimeWarps]

  LPLB_HOST_DEVICE static int bytes(const DeviceTablesHeader& h) {
    return kTimeWarps * static_cast<int>(sizeof(Least)) +
           8 * (2 * h.num_ranks + h.num_places + h.num_replicated) +
           4 * (h.num_replicated + 2 * h.num_ranks);
  }

  /// `memory` must be aligned to 8 bytes.
  __device__ static BlockTimeState carve(unsigned char* memory, const DeviceTablesHeader& h) {
    BlockTimeState s;
    s.least = reinterpret_cast<Least*>(memory);
    s.fixed = reinterpret_cast<WideSum*>(s.least + kTimeWarps);
    s.price = reinterpret_cast<long long*>(s.fixed + h.num_ranks);
    s.part = s.price + h.num_ranks;
    s.window = reinterpret_cast<int2*>(s.part + h.num_places);
    s.want = reinterpret_cast<int*>(s.window + h.num_replicated);
    s.fixed_tokens = s.want + h.num_replicated;
    s.active = s.fixed_tokens + h.num_ranks;
    return s;
  }
};

/// The curves in shared memory. NOTE: everything is inlined, because the address of an object puts
/// it into local memory, which takes thousands of cycles for a block.
class DeviceCostTables {
 public:
  __device__ DeviceCostTables(const unsigned char* image, const DeviceTablesHeader& h)
      : costs_(*reinterpret_cast<const DeviceCosts*>(image + h.costs)),
        curve_of_(reinterpret_cast<const std::uint16_t*>(image + costs_.curve_of)),
        curves_(reinterpret_cast<const DeviceCurve*>(image + costs_.curves)),
        step_tokens_(reinterpret_cast<const std::int32_t*>(image + costs_.step_tokens)),
        step_cost_(reinterpret_cast<const std::int64_t*>(image + costs_.step_cost)) {}

  __device__ int one_step() const { return costs_.one_step; }
  __device__ int narrow_load() const { return costs_.narrow_load; }
  __device__ bool has_least() const { return costs_.least >= 0; }
  __device__ const DeviceCurve& least() const { return curves_[costs_.least]; }
  __device__ const DeviceCurve& curve(int rank) const { return curves_[curve_of_[rank]]; }
  __device__ long long first_cost(const DeviceCurve& c) const { return step_cost_[c.begin]; }

  /// CostCurve::of(). Cost: int up to narrow_load(), or long long.
  template <class Cost = long long>
  __device__ __forceinline__ Cost of(const DeviceCurve& c, int tokens) const {
    const int step = step_of(c, tokens);
    const int beyond = tokens - c.last_tokens;
    const int more = BlockTables::divide_by_few(max(beyond - 1, 0), c.then_every, c.reciprocal) + 1;
    const auto given = static_cast<Cost>(step_cost_[step]);
    const Cost extra = beyond > 0 ? more * static_cast<Cost>(c.then_cost) : 0;
    return tokens > 0 ? given + extra : 0;
  }

  /// CostCurve::steps() for tokens > 0.
  __device__ __forceinline__ int steps(const DeviceCurve& c, int tokens) const {
    const int beyond = tokens - c.last_tokens;
    const int more = BlockTables::divide_by_few(max(beyond - 1, 0), c.then_every, c.reciprocal) + 1;
    return step_of(c, tokens) - c.begin + 1 + (beyond > 0 ? more : 0);
  }
  /// CostCurve::end(), at most 2^31 - 1, of at most as many steps as a number of tokens takes.
  __device__ __forceinline__ int end(const DeviceCurve& c, int steps) const {
    const int given = step_tokens_[c.begin + min(max(steps - 1, 0), c.num_steps - 1)];
    const unsigned more =
        static_cast<unsigned>(max(steps - c.num_steps, 0)) * static_cast<unsigned>(c.then_every);
    const unsigned end = min(static_cast<unsigned>(given) + more, 0x7FFFFFFFu);
    return steps <= 0 ? 0 : static_cast<int>(end);
  }
  /// What tokens cost that take so many steps.
  template <class Cost>
  __device__ __forceinline__ Cost of_steps(const DeviceCurve& c, int steps) const {
    const auto given =
        static_cast<Cost>(step_cost_[c.begin + min(max(steps - 1, 0), c.num_steps - 1)]);
    const Cost more = max(steps - c.num_steps, 0) * static_cast<Cost>(c.then_cost);
    return steps <= 0 ? 0 : given + more;
  }

  /// What a rank with tokens costs besides them.
  template <class Cost>
  __device__ __forceinline__ static Cost constant(const DeviceCurve& curve) {
    return static_cast<Cost>(curve.rank);
  }
  /// TimeState::price_of() of the CPU, and back: a rank that costs nothing has no parts.
  template <class Cost>
  __device__ __forceinline__ static Cost with_constant(Cost constant, Cost parts) {
    return parts == 0 ? 0 : parts + constant;
  }
  template <class Cost>
  __device__ __forceinline__ static Cost without_constant(Cost constant, Cost price) {
    return price == 0 ? 0 : price - constant;
  }

 private:
  /// The first step that has room for the tokens, or the last one.
  __device__ __forceinline__ int step_of(const DeviceCurve& c, int tokens) const {
    int step = c.begin;
    LPLB_ROLLED
    for (int left = c.num_steps; left > 1;) {
      const int half = left / 2;
      step += step_tokens_[step + half - 1] < tokens ? half : 0;
      left -= half;
    }
    return step;
  }

  const DeviceCosts& costs_;
  const std::uint16_t* curve_of_;
  const DeviceCurve* curves_;
  const std::int32_t* step_tokens_;
  const std::int64_t* step_cost_;
};

}  // namespace lplb::solvers
