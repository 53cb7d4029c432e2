// SPDX-License-Identifier: MIT
#pragma once

#include "solve/device/block_flow.cuh"
#include "solve/device/rank_speeds.cuh"
#include "solve/speed_level.h"

namespace lplb::solvers {

/// Scratch memory for a split by speeds.
struct SpeedScratch {
  int* capacity;         ///< [num_ranks]
  int* other;            ///< [num_places]: loads without an expert
  int* share;            ///< [num_places]: what its places would take
  std::uint16_t* order;  ///< [num_places]: of its places
};

/// The bound of BlockFlow for ranks of any speeds: what flow_cpu.cc and sweep.cc do about them. It
/// is for few batches, so it is simple rather than quick.
class SpeedBound {
 public:
  /// `total`: the tokens of the batch.
  __device__ SpeedBound(const RankSpeeds& speeds, const SpeedScratch& scratch, int total)
      : speeds_(speeds), scratch_(scratch), total_(total) {}

  __device__ int tokens() const { return bound_.tokens; }
  __device__ int capacity(int g) const { return scratch_.capacity[g]; }

  __device__ bool sweep(const BlockTables& t, const BlockState& s, const BlockTeam& team) const {
    return solvers::sweep(t, s, team, NeverStop{},
                          [this](const BlockTables& tables, const BlockState& state, int k) {
                            return speeds_.is_uniform ? level_expert(tables, state, k)
                                                      : level_by_speed(tables, state, k);
                          });
  }

  __device__ void raise_to_first(const BlockTables& t, const BlockState& s, const BlockTeam& team) {
    int* const part_load = s.room;
    for_each(team, t.num_parts, [&](int i) { part_load[i] = 0; });
    team.sync();
    for_ranks(t, team, [&](int g) { atomicAdd(&part_load[t.part_of[g]], s.rank_load[g]); });
    team.sync();
    // Every warp does the same.
    bound_ = {0, static_cast<int>(t.live_rank[0])};
    int part = -1;
#pragma unroll 1
    for (int i = 0; i < t.num_parts; ++i) {
      const DeviceLevel level = speeds_.raise_to_fit(
          0, t.num_ranks, part_load[i], [&](int g) { return static_cast<int>(t.part_of[g]) == i; });
      if (part >= 0 && speeds_.compare(level, bound_) <= 0) continue;
      bound_ = level;
      part = i;
    }
    int alone = -1;
#pragma unroll 1
    for (int i = 0; i < t.num_live; ++i) {
      const int g = t.live_rank[i];
      if (speeds_.compare({s.fixed[g], g}, bound_) <= 0) continue;
      bound_ = {s.fixed[g], g};
      alone = g;
    }
    for_ranks(t, team, [&](int g) {
      if (alone >= 0 ? alone == g : part == t.part_of[g]) add_bit(s.proof, g);
    });
    update_capacity(t, team);
  }

  __device__ void raise_to_closure(const BlockTables& t, const BlockState& s,
                                   const BlockTeam& team) {
    for_ranks(t, team, [&](int g) {
      if (s.label[g] >= 0) add_bit(s.proof, g);
    });
    int load = 0;
#pragma unroll 1
    for (int i = 0; i < t.num_live; ++i) {
      const int g = t.live_rank[i];
      load += s.label[g] >= 0 ? s.rank_load[g] : 0;
    }
    bound_ = speeds_.raise_to_fit(0, t.num_ranks, load,
                                  [&](int g) { return speeds_.is_alive(g) && s.label[g] >= 0; });
    update_capacity(t, team);
  }

 private:
  /// NOTE: only the thread that owns a rank reads its capacity.
  __device__ void update_capacity(const BlockTables& t, const BlockTeam& team) const {
    for_ranks(t, team, [&](int g) { scratch_.capacity[g] = speeds_.capacity(g, bound_, total_); });
  }

  /// The speeds of an expert's places.
  struct PlaceSpeeds {
    const double* speed;
    const std::uint16_t* rank;
    LPLB_HOST_DEVICE double operator[](int i) const { return speed[rank[i]]; }
  };

  /// level_expert() of sweep.cc, by one thread. Returns whether a take changed.
  __device__ bool level_by_speed(const BlockTables& t, const BlockState& s, int k) const {
    const int begin = t.place_begin[k];
    const int count = t.place_begin[k + 1] - begin;
    const std::uint16_t* const rank = t.place_rank + begin;
    const PlaceSpeeds speed{speeds_.speed, rank};
    int* const take = s.take + begin;
    int* const other = scratch_.other + begin;
    int* const share = scratch_.share + begin;
    std::uint16_t* const order = scratch_.order + begin;
#pragma unroll 1
    for (int i = 0; i < count; ++i) {
      other[i] = s.rank_load[rank[i]] - take[i];
      int at = i;  // sorts by insertion
#pragma unroll 1
      for (; at > 0 && is_lower(other, speed, i, order[at - 1]); --at) order[at] = order[at - 1];
      order[at] = static_cast<std::uint16_t>(i);
    }
    level_in_order(s.want[k], count, other, speed, order, share);
    bool changed = false;
#pragma unroll 1
    for (int i = 0; i < count; ++i) {
      changed |= share[i] != take[i];
      take[i] = share[i];
      s.rank_load[rank[i]] = other[i] + share[i];
    }
    return changed;
  }

  const RankSpeeds speeds_;
  const SpeedScratch scratch_;
  const int total_;
  DeviceLevel bound_{0, 0};
};

}  // namespace lplb::solvers
