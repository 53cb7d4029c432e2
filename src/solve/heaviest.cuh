// SPDX-License-Identifier: MIT
#pragma once

#include "solve/block.cuh"

// Flow::raise_to_heaviest() for a team: the best bound that some of the heaviest ranks prove.
namespace lplb::solvers {

inline constexpr int kHeavy = 32;  // as Flow's
inline constexpr int kLight = 1 << 16;

struct HeaviestRanks {
  int bound;
  int last;  ///< they are those with `room` up to this, where the bound is more than it was
};

/// All threads call it, with `rank_load` synchronised, and a bound that some rank exceeds. Sets
/// `room` to the ranks' numbers in the order of their loads, the heaviest first, and adds kLight
/// where a rank is no help. Takes `label` and two values of `scalars`.
template <class Team>
__device__ __forceinline__ HeaviestRanks find_heaviest(const BlockTables& t, const BlockState& s,
                                                       Team& team, int bound) {
  const auto for_each = [&](int count, auto body) {
#pragma unroll 1
    for (int i = team.thread(); i < count; i += team.num_threads()) body(i);
  };
  int* const confined = s.label;  // to the first ranks in that order, and not to fewer
  if (team.thread() == 0) {
    s.scalars->most = -1;
    s.scalars->first = 0x7FFFFFFF;
  }
  // NOTE: dead ranks, too: they have no load, so they are light.
  for_each(t.num_ranks, [&](int g) {
    const int load = s.rank_load[g];
    int number = 0;
#pragma unroll 8
    for (int h = 0; h < t.num_ranks; ++h) number += s.rank_load[h] > load - (h < g ? 1 : 0) ? 1 : 0;
    const bool is_light = load <= bound - bound / kHeavy;
    s.room[g] = number + (is_light ? kLight : 0);
    confined[number] = is_light ? 0 : s.fixed[g];
  });
  team.sync();
  for_each(t.num_replicated, [&](int k) {
    int last = 0;
    const int end = t.place_begin[k + 1];
#pragma unroll 4
    for (int i = t.place_begin[k]; i < end; ++i) last = max(last, s.room[t.place_rank[i]]);
    if (last < kLight) atomicAdd(&confined[last], s.want[k]);
  });
  team.sync();
  int most = -1;
  int last = 0x7FFFFFFF;
  int before = 0;
#pragma unroll 1
  for (int first = 0; first < t.num_live; first += team.num_threads()) {
    const int i = first + team.thread();
    int total;
    const int sum = before + team.scan(i < t.num_live ? confined[i] : 0, &total, s.scalars);
    const int level = i < t.num_live ? t.divide_up(sum, i + 1) : -1;
    last = level > most ? i : last;
    most = max(most, level);
    before += total;
  }
  const int best = team.max_of(most, s.scalars);
  if (best <= bound) return {best, -1};
  return {best, team.min_of(most == best ? last : 0x7FFFFFFF, s.scalars)};
}

}  // namespace lplb::solvers
