// SPDX-License-Identifier: MIT
#pragma once

#include "solve/block.cuh"

// Flow::raise_to_heaviest() for a team: the best bound that some of the heaviest ranks prove.
namespace lplb::solvers {

struct HeaviestRanks {
  int bound;
  int last;  ///< they are those with `room` up to this
};

inline constexpr int kHeavy = 32;  // as Flow's
inline constexpr int kLight = 1 << 16;

/// All threads call it, with `rank_load` synchronised, and a bound that some rank exceeds. Sets
/// `room` of live ranks to their number in the order of their loads, the heaviest first, and adds
/// kLight where a rank is no help. Takes `label` and two values of `scalars`; a sync
/// must follow before these are written again.
template <class Team>
__device__ __forceinline__ HeaviestRanks find_heaviest(const BlockTables& t, const BlockState& s,
                                                       Team& team, int bound) {
  const auto for_each = [&](int count, auto body) {
#pragma unroll 1
    for (int i = team.thread(); i < count; i += team.num_threads()) body(i);
  };
  int* const load = s.label;
  for_each(t.num_ranks, [&](int g) { load[g] = t.part_of[g] != kNoPlace ? s.rank_load[g] : -1; });
  if (team.thread() == 0) {
    s.scalars->most = -1;
    s.scalars->first = 0x7FFFFFFF;
  }
  team.sync();
  for_each(t.num_ranks, [&](int g) {
    const int mine = load[g];
    int heavier = 0;
#pragma unroll 8
    for (int h = 0; h < t.num_ranks; ++h) heavier += load[h] > mine - (h < g ? 1 : 0) ? 1 : 0;
    s.room[g] = mine < 0 ? -1 : heavier + (mine > bound - bound / kHeavy ? 0 : kLight);
  });
  team.sync();
  int* const confined = s.label;  // to the first ranks in that order, and not to fewer
  for_each(t.num_ranks, [&](int g) {
    const int number = s.room[g];
    if (number >= 0) confined[number % kLight] = number < kLight ? s.fixed[g] : 0;
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
  return {best, team.min_of(most == best ? last : 0x7FFFFFFF, s.scalars)};
}

}  // namespace lplb::solvers
