// SPDX-License-Identifier: MIT
#pragma once

#include "core/exact_speed.h"
#include "solve/device/wide.cuh"

namespace lplb::solvers {

/// RankCost on the device, exact as that is.
struct RankSpeeds {
  const double* speed;      ///< [num_ranks]
  const ExactSpeed* exact;  ///< [num_ranks]; with mantissa 0: the rank is dead
  bool is_uniform;          ///< all speeds are equal, also those of dead ranks

  __device__ bool is_alive(int rank) const { return exact[rank].mantissa != 0; }

  /// The speeds of the ranks from `first` on, which count from 0 then.
  __device__ RankSpeeds from(int first, bool are_uniform) const {
    return {speed + first, exact + first, are_uniform};
  }

  __device__ int compare(DeviceLevel a, DeviceLevel b) const {
    if (is_uniform) return a.tokens < b.tokens ? -1 : a.tokens > b.tokens ? 1 : 0;
    return compare_times(a.tokens, exact[a.rank], b.tokens, exact[b.rank]);
  }

  __device__ int capacity(int rank, DeviceLevel level, int limit) const {
    if (is_uniform) return min(level.tokens, limit);
    const double estimate = static_cast<double>(level.tokens) * (speed[rank] / speed[level.rank]);
    return static_cast<int>(most_that_fit(estimate, limit, [&](Load n) {
      return compare({static_cast<int>(n), rank}, level) <= 0;
    }));
  }

  __device__ double price(DeviceLevel level) const {
    return static_cast<double>(level.tokens) / speed[level.rank];
  }

  /// The higher of two levels; of equal ones that of the lower rank. With -1 tokens: none.
  __device__ DeviceLevel higher(DeviceLevel a, DeviceLevel b) const {
    if (a.tokens < 0 || b.tokens < 0) return a.tokens < 0 ? b : a;
    const int order = compare(a, b);
    return order > 0 || (order == 0 && a.rank < b.rank) ? a : b;
  }

  /// The highest of the levels of all lanes of a warp, which all get it. With -1 tokens: none.
  __device__ DeviceLevel highest_of(DeviceLevel most) const {
#pragma unroll 1
    for (int distance = kWarpSize / 2; distance > 0; distance /= 2) {
      const DeviceLevel other{__shfl_xor_sync(~0u, most.tokens, distance),
                              __shfl_xor_sync(~0u, most.rank, distance)};
      most = higher(most, other);
    }
    return most;
  }
  /// The highest of load_of(rank) for the live ones of the ranks from `first` to `end`. All lanes
  /// of a warp call it and get the result.
  template <class LoadOf>
  __device__ DeviceLevel highest(int first, int end, LoadOf load_of) const {
    DeviceLevel most{-1, first};
#pragma unroll 1
    for (int g = first + lane(); g < end; g += kWarpSize) {
      if (is_alive(g)) most = higher(most, {load_of(g), g});
    }
    return highest_of(most);
  }

  /// raise_to_fit() for those of the ranks from `first` to `end`, at most kMostReciprocal, for
  /// which is_in(rank) holds; there must be one. All lanes of a warp call it and get the result.
  template <class IsIn>
  __device__ DeviceLevel raise_to_fit(int first, int end, int need, IsIn is_in) const {
    int count = 0;
    int lowest = first;
    int fastest = first;
    double joint_speed = 0;
#pragma unroll 1
    for (int g = first; g < end; ++g) {
      if (!is_in(g)) continue;
      if (count++ == 0) lowest = fastest = g;
      if (speed[g] > speed[fastest]) fastest = g;
      joint_speed += speed[g];
    }
    if (is_uniform || need == 0) return {need / count + (need % count != 0 ? 1 : 0), lowest};
    const auto carried = [&](int tokens) {
      long long sum = 0;
#pragma unroll 1
      for (int g = first + lane(); g < end; g += kWarpSize) {
        sum += is_in(g) ? capacity(g, {tokens, fastest}, need) : 0;
      }
      return warp_sum(sum);
    };
    const double estimate = static_cast<double>(need) * (speed[fastest] / joint_speed);
    const auto low = static_cast<int>(most_that_fit(
        estimate, need, [&](Load tokens) { return carried(static_cast<int>(tokens)) < need; }));

    // From there on each rank takes at most one token more before the set fits: the cheapest of
    // these tokens first. Each lane finds for its ranks which token in this order theirs is.
    const int rest = need - static_cast<int>(carried(low));
    constexpr int kMostEach = kMostReciprocal / kWarpSize;
    int next[kMostEach];
#pragma unroll 1
    for (int i = 0; i < kMostEach; ++i) {
      const int g = first + kWarpSize * i + lane();
      next[i] = g < end && is_in(g) ? capacity(g, {low, fastest}, need) + 1 : 0;
    }
    DeviceLevel level{0, lowest};
#pragma unroll 1
    for (int i = 0; first + kWarpSize * i < end; ++i) {
      const int g = first + kWarpSize * i + lane();
      int before = 0;
#pragma unroll 1
      for (int other = first; other < end; ++other) {
        const int at = other - first;
        const DeviceLevel its{__shfl_sync(~0u, next[at / kWarpSize], at % kWarpSize), other};
        if (its.tokens == 0 || next[i] == 0) continue;
        const int order = compare(its, {next[i], g});
        before += order < 0 || (order == 0 && other < g) ? 1 : 0;
      }
      const unsigned votes = __ballot_sync(~0u, next[i] != 0 && before == rest - 1);
      if (votes == 0) continue;
      const int winner = __ffs(static_cast<int>(votes)) - 1;
      level = {__shfl_sync(~0u, next[i], winner), first + kWarpSize * i + winner};
    }
    return level;
  }

 private:
  __device__ static int lane() { return static_cast<int>(threadIdx.x) % kWarpSize; }
};

}  // namespace lplb::solvers
