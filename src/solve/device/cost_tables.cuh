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
  int* best;          // [num_places]

  LPLB_HOST_DEVICE static int bytes(const DeviceTablesHeader& h) {
    return 16 * h.num_ranks + 4 * (h.num_replicated + 2 * h.num_ranks + h.num_places);
  }

  /// `memory` must be aligned to 8 bytes.
  __device__ static BlockTimeState carve(unsigned char* memory, const DeviceTablesHeader& h) {
    BlockTimeState s;
    s.fixed = reinterpret_cast<long long*>(memory);
    s.cost = s.fixed + h.num_ranks;
    s.want = reinterpret_cast<int*>(s.cost + h.num_ranks);
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
        step_cost_(reinterpret_cast<const std::int64_t*>(image + costs_.step_cost)),
        place_slots(reinterpret_cast<const std::uint16_t*>(image + costs_.place_slots)),
        logical(reinterpret_cast<const std::uint16_t*>(image + costs_.logical)) {}

  __device__ int one_step() const { return costs_.one_step; }
  __device__ bool has_least() const { return costs_.least >= 0; }
  __device__ long long least_of(int tokens) const { return of(curves_[costs_.least], tokens); }
  __device__ const DeviceCurve& curve(int rank) const { return curves_[curve_of_[rank]]; }
  __device__ long long first_cost(const DeviceCurve& c) const { return step_cost_[c.begin]; }

  /// CostCurve::of()
  __device__ long long of(const DeviceCurve& c, int tokens) const {
    if (tokens <= 0) return 0;
    int low = c.begin;
    int high = c.end;
    while (low < high) {
      const int middle = (low + high) / 2;
      if (step_tokens_[middle] < tokens) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    if (low < c.end) return step_cost_[low];
    const auto beyond = static_cast<unsigned>(tokens - step_tokens_[c.end - 1] - 1);
    return step_cost_[c.end - 1] +
           (static_cast<long long>(beyond / static_cast<unsigned>(c.then_every)) + 1) * c.then_cost;
  }
  __device__ long long of(int rank, int tokens) const { return of(curve(rank), tokens); }

  /// TimeState::price_of() of the CPU
  __device__ long long price_of(int rank, long long parts) const {
    return parts == 0 ? 0 : parts + curve(rank).rank;
  }

 private:
  const DeviceCosts& costs_;
  const std::uint16_t* curve_of_;
  const DeviceCurve* curves_;
  const std::int32_t* step_tokens_;
  const std::int64_t* step_cost_;

 public:
  const std::uint16_t* place_slots;
  const std::uint16_t* logical;
};

}  // namespace lplb::solvers
