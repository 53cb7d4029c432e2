// SPDX-License-Identifier: MIT
#pragma once

#include "solve/block.cuh"

// sweep.cc for a team: the same rules of level.h, a colour at a time, a lane a place.
namespace lplb::solvers {

/// level_two() for the first of the two places.
__device__ inline int level_two(int w, int a, int b) {
  const int twice = w + b - a;
  return min(max((twice >> 1) + (twice & 1), 0), w);
}

/// Sum of `value` over the group of a lane; `widest` is that of the warp's groups.
__device__ inline int group_sum(int value, int width, int widest) {
  for (int step = 1; step < widest; step *= 2) {
    const int other = __shfl_xor_sync(~0u, value, step);
    if (step < width) value += other;
  }
  return value;
}

/// level_uniform() for each group of a warp: a valid lane carries `other` without the expert; its
/// share of the expert's `w` tokens is returned.
__device__ inline int level_groups(const BlockTables& t, bool valid, int w, int other, int count,
                                   int lane, int widest) {
  const int width = group_width(count);
  const unsigned group = group_mask(lane, width);
  int level = 0x7FFFFFFF;
  for (;;) {
    const bool stays = valid && other <= level;
    const unsigned stay = __ballot_sync(~0u, stays) & group;
    const int filled = w + group_sum(stays ? other : 0, width, widest);
    const int left = max(__popc(stay), 1);
    level = t.divide(filled, left);
    if (__any_sync(~0u, stays && other > level)) continue;
    const int extra = filled - level * left;
    return stays ? level - other + (__popc(stay & ((1u << lane) - 1)) < extra ? 1 : 0) : 0;
  }
}

/// One tile of experts of up to 32 places. Returns whether the lane's take changed.
__device__ inline bool level_tile(const BlockTables& t, const BlockState& s, const DeviceLane& me,
                                  int w, int slot, int lane, int widest) {
  const bool valid = is_place(me);
  const int took = s.take[slot];
  const int other = valid ? s.rank_load[me.rank] - took : 0;
  int x;
  if (widest <= 2) {
    const int peer = __shfl_xor_sync(~0u, other, 1);
    x = me.position == 0 ? level_two(w, other, peer) : w - level_two(w, peer, other);
  } else {
    x = level_groups(t, valid, w, other, me.count, lane, widest);
  }
  if (!valid || x == took) return false;
  s.take[slot] = x;
  s.rank_load[me.rank] = other + x;
  return true;
}

/// One expert of more than 32 places, by one warp: the rounds of level_uniform() over its tiles.
__device__ inline bool level_wide(const BlockTables& t, const BlockState& s, int slot, int span,
                                  int lane) {
  const int w = s.want[t.lanes[slot].expert];
  const auto other_at = [&](int i, bool* valid) {
    const DeviceLane me = t.lanes[slot + i * kLanes];
    *valid = is_place(me);
    return *valid ? s.rank_load[me.rank] - s.take[slot + i * kLanes] : 0;
  };
  int level = 0x7FFFFFFF;
  int extra;
  for (;;) {
    int sum = 0;
    int count = 0;
    int most = 0;
    for (int i = 0; i < span; ++i) {
      bool valid;
      const int other = other_at(i, &valid);
      const bool stays = valid && other <= level;
      sum += stays ? other : 0;
      count += stays ? 1 : 0;
      most = max(most, stays ? other : 0);
    }
    const int filled = w + __reduce_add_sync(~0u, sum);
    count = __reduce_add_sync(~0u, count);
    level = filled / count;
    extra = filled - level * count;
    if (__reduce_max_sync(~0u, most) <= level) break;
  }
  bool changed = false;
  int before = 0;
  for (int i = 0; i < span; ++i) {
    bool valid;
    const int other = other_at(i, &valid);
    const bool stays = valid && other <= level;
    const unsigned stay = __ballot_sync(~0u, stays);
    const int place = before + __popc(stay & ((1u << lane) - 1));
    const int x = stays ? level - other + (place < extra ? 1 : 0) : 0;
    before += __popc(stay);
    if (!valid || x == s.take[slot + i * kLanes]) continue;
    s.take[slot + i * kLanes] = x;
    s.rank_load[t.lanes[slot + i * kLanes].rank] = other + x;
    changed = true;
  }
  return changed;
}

/// The tiles of a warp in a team. Where the shape allows it (kHeld: at most kHeldColours colours of
/// at most one tile a warp, no expert wider than a tile) a lane keeps what it is in registers.
inline constexpr int kHeldColours = 8;

template <bool kOneWarp, bool kHeld>
class TeamTiles {
 public:
  static __host__ __device__ bool can_hold(const DeviceTablesHeader& h, int num_warps) {
    return h.num_colours <= kHeldColours && h.most_tiles <= num_warps && h.most_span <= 1;
  }

  /// NOTE: `want` is filled and synchronised before.
  __device__ TeamTiles(const BlockTables& tables, const BlockState& state,
                       const Team<kOneWarp>& team)
      : t_(tables), s_(state), team_(team) {
    if constexpr (kHeld) {
#pragma unroll
      for (int c = 0; c < kHeldColours; ++c) {
        slot_[c] = -1;
        if (c >= t_.num_colours) continue;
        const int tile = t_.colour_begin[c] + team_.warp();
        if (tile >= t_.colour_begin[c + 1]) continue;
        slot_[c] = tile * kLanes + team_.lane();
        lane_[c] = t_.lanes[slot_[c]];
        widest_[c] = t_.tiles[tile].width;
        want_[c] = is_place(lane_[c]) ? s_.want[lane_[c].expert] : 0;
      }
    }
  }

  /// Calls body(slot, lane, span, c) for each tile of this warp (for each expert wider than one
  /// once), the whole warp together; c numbers the tiles that are held.
  template <class Body>
  __device__ void for_each(Body body) const {
    if constexpr (kHeld) {
#pragma unroll
      for (int c = 0; c < kHeldColours; ++c) {
        if (slot_[c] >= 0) body(slot_[c], lane_[c], 1, c);
      }
    } else {
      for (int i = team_.warp(); i < t_.num_tiles; i += team_.num_warps()) {
        const int span = t_.tiles[i].span;
        const int slot = i * kLanes + team_.lane();
        if (span != 0) body(slot, t_.lanes[slot], span, 0);
      }
    }
  }

  /// One sweep over all experts; returns whether a take of this thread changed. Ends in a sync.
  __device__ bool sweep() const {
    bool changed = false;
    if constexpr (kHeld) {
#pragma unroll
      for (int c = 0; c < kHeldColours; ++c) {
        if (c >= t_.num_colours) break;
        if (slot_[c] >= 0) {
          changed |= level_tile(t_, s_, lane_[c], want_[c], slot_[c], team_.lane(), widest_[c]);
        }
        team_.sync();
      }
    } else {
      for (int c = 0; c < t_.num_colours; ++c) {
        const int end = t_.colour_begin[c + 1];
        for (int i = t_.colour_begin[c] + team_.warp(); i < end; i += team_.num_warps()) {
          changed |= level_any(i);
        }
        team_.sync();
      }
    }
    return changed;
  }

  /// share_evenly(): take, and rank_load from `fixed`. Ends in a sync.
  __device__ void share_evenly() const {
    for (int g = team_.thread(); g < t_.num_ranks; g += team_.num_threads()) {
      s_.rank_load[g] = s_.fixed[g];
    }
    team_.sync();
    for_each([&](int slot, const DeviceLane& first, int span, int) {
      for (int i = 0; i < span; ++i) {
        const DeviceLane me = i == 0 ? first : t_.lanes[slot + i * kLanes];
        int x = 0;
        if (is_place(me)) {
          const int w = s_.want[me.expert];
          const int each = me.count <= kLanes ? t_.divide(w, me.count) : w / me.count;
          x = each + (me.position < w - each * me.count ? 1 : 0);
          atomicAdd(&s_.rank_load[me.rank], x);
        }
        s_.take[slot + i * kLanes] = x;
      }
    });
    team_.sync();
  }

 private:
  __device__ bool level_any(int i) const {
    const DeviceTile tile = t_.tiles[i];
    if (tile.span == 0) return false;
    const int slot = i * kLanes + team_.lane();
    if (tile.span > 1) return level_wide(t_, s_, slot, tile.span, team_.lane());
    const DeviceLane me = t_.lanes[slot];
    const int w = is_place(me) ? s_.want[me.expert] : 0;
    return level_tile(t_, s_, me, w, slot, team_.lane(), tile.width);
  }

  const BlockTables& t_;
  const BlockState& s_;
  const Team<kOneWarp>& team_;
  int slot_[kHeldColours];
  DeviceLane lane_[kHeldColours];
  int widest_[kHeldColours];
  int want_[kHeldColours];
};

}  // namespace lplb::solvers
