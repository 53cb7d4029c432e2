// SPDX-License-Identifier: MIT
#pragma once

#include "solve/device/block.cuh"

// sweep.cc for a team: the same rules of level.h, one colour at a time, one thread for each expert.
// Experts of a colour share no rank, so their threads never write the same load.
//
// The functions that level one expert differ in where its places are:
//
//   level_places()   any number of places, in shared memory: the simple one
//   level_few()      up to 8 places, read from shared memory once
//   level_held()     up to 8 places, held in registers
//   level_two()      two places
namespace lplb::solvers {

/// level_two() of level.h: what the first of two places takes.
__device__ __forceinline__ int level_two(int w, int a, int b) {
  const int twice = w + b - a;
  return min(max((twice >> 1) + (twice & 1), 0), w);
}

/// level_uniform() of level.h for places [begin, end) with `w` tokens. Returns whether a take
/// changed. NOTE: it starts from the places that have tokens, which are mostly those that keep
/// some; then the loop runs once, to find that no other set fits. Any start gives the same result:
/// the level of any set of places is at least the right one, and from there it only falls.
__device__ __forceinline__ bool level_places(const BlockTables& t, const BlockState& s, int begin,
                                             int end, int w) {
  // Start from the places that have tokens.
  int filled = w;
  int count = 0;
#pragma unroll 4
  for (int i = begin; i < end; ++i) {
    const int took = s.take[i];
    const int other = s.rank_load[t.place_rank[i]] - took;
    filled += took > 0 ? other : 0;
    count += took > 0 ? 1 : 0;
  }
  if (count == 0) return false;  // no tokens
  int level;
  for (;;) {
    // The level of the set; then the set of the places up to it.
    level = t.divide(filled, count);
    int next_filled = w;
    int next_count = 0;
#pragma unroll 4
    for (int i = begin; i < end; ++i) {
      const int other = s.rank_load[t.place_rank[i]] - s.take[i];
      next_filled += other <= level ? other : 0;
      next_count += other <= level ? 1 : 0;
    }
    if (next_filled == filled && next_count == count) break;
    filled = next_filled;
    count = next_count;
  }
  // Write the takes. The first places that stay get the odd tokens.
  int extra = filled - level * count;
  bool changed = false;
#pragma unroll 1
  for (int i = begin; i < end; ++i) {
    const int rank = t.place_rank[i];
    const int took = s.take[i];
    const int other = s.rank_load[rank] - took;
    const bool stays = other <= level;
    const int x = stays ? level - other + (extra > 0 ? 1 : 0) : 0;
    extra -= stays ? 1 : 0;
    if (x == took) continue;
    s.take[i] = x;
    s.rank_load[rank] = other + x;
    changed = true;
  }
  return changed;
}

/// A set of up to 8 places has four bits for each place: member(i) is place i alone. In the four
/// bits of each place, count_up() has the number of places in the set up to that one. This is one
/// multiplication, in which no sum waits for another.
__device__ __forceinline__ unsigned member(int i) { return 1u << 4 * i; }
__device__ __forceinline__ unsigned count_up(unsigned set) { return set * 0x11111111u; }
__device__ __forceinline__ int count_of(unsigned set) { return count_up(set) >> 28; }
template <int kMost, class IsIn>
__device__ __forceinline__ unsigned members(IsIn is_in) {
  static_assert(kMost <= 8);
  unsigned set = 0;
#pragma unroll
  for (int i = 0; i < kMost; ++i) set |= is_in(i) ? member(i) : 0;
  return set;
}

/// Sums over a set of an expert's places. `filled`: what these places carry, with the expert's `w`
/// tokens. `most`: the most that one of them carries without these tokens. `least`: the least that
/// a place outside the set carries.
struct PlaceSums {
  int filled;
  int most = 0;
  int least = 0x7FFFFFFF;

  template <int kMost, class IsIn>
  __device__ __forceinline__ PlaceSums(int w, const int (&other)[kMost], IsIn is_in) : filled(w) {
#pragma unroll
    for (int i = 0; i < kMost; ++i) {
      filled += is_in(i) ? other[i] : 0;
      most = max(most, is_in(i) ? other[i] : 0);
      least = min(least, is_in(i) ? 0x7FFFFFFF : other[i]);
    }
  }

  /// Whether the set is all places that carry at most `level`. (If another place carries exactly
  /// `level`, the level and the odd tokens are the same with it.)
  __device__ __forceinline__ bool fit(int level) const { return most <= level && least >= level; }
};

/// level_places() for an expert whose places are in registers. `other`: what each place's rank
/// carries without the expert, 0x7FFFFFFF if there is no such place. `take` is set to what each
/// place takes. It starts from `set`, which may be any but empty; `reciprocal` is that of its size.
/// Returns the set of places that stay.
template <int kMost>
__device__ __forceinline__ unsigned level_held(const BlockTables& t, int w,
                                               const int (&other)[kMost], unsigned set,
                                               unsigned reciprocal, int (&take)[kMost]) {
  PlaceSums sums(w, other, [&](int i) { return (set & member(i)) != 0; });
  int count = count_of(set);
  int level = t.divide_by_few(sums.filled, count, reciprocal);
#pragma unroll 1
  while (!sums.fit(level)) {
    const auto stays = [&](int i) { return other[i] <= level; };
    count = count_of(members<kMost>(stays));
    sums = PlaceSums(w, other, stays);
    level = t.divide_by_few(sums.filled, count);
  }
  const auto extra = static_cast<unsigned>(sums.filled - level * count);
  const unsigned stay = members<kMost>([&](int i) { return other[i] <= level; });
  // The first `extra` of the places that stay get one more token. In the four bits of a place, bit
  // 3 is set if the set has at most `extra` places up to that one.
  const unsigned more = (count_up(extra) + 0x88888888u - count_up(stay)) & stay << 3;
#pragma unroll
  for (int i = 0; i < kMost; ++i) {
    take[i] = max(level - other[i], 0) + static_cast<int>(more >> (4 * i + 3) & 1);
  }
  return stay;
}

/// level_places() for up to kMost places, which it reads once.
template <int kMost>
__device__ __forceinline__ bool level_few(const BlockTables& t, const BlockState& s, int begin,
                                          int count, int w) {
  int rank[kMost];
  int took[kMost];
  int take[kMost];
  int other[kMost];
#pragma unroll
  for (int i = 0; i < kMost; ++i) {
    const int place = begin + min(i, count - 1);
    rank[i] = t.place_rank[place];
    took[i] = i < count ? s.take[place] : 0;
    take[i] = took[i];
  }
#pragma unroll
  for (int i = 0; i < kMost; ++i) {
    other[i] = i < count ? s.rank_load[rank[i]] - took[i] : 0x7FFFFFFF;
  }
  // NOTE: it starts from the places that have tokens, which are mostly those that keep some.
  const unsigned set = members<kMost>([&](int i) { return took[i] > 0; });
  if (set == 0) return false;  // no tokens
  level_held(t, w, other, set, t.reciprocal[count_of(set)], take);
  bool changed = false;
#pragma unroll
  for (int i = 0; i < kMost; ++i) {
    if (i >= count || take[i] == took[i]) continue;
    s.take[begin + i] = take[i];
    s.rank_load[rank[i]] = other[i] + take[i];
    changed = true;
  }
  return changed;
}

__device__ __forceinline__ bool level_expert(const BlockTables& t, const BlockState& s, int k) {
  const int begin = t.place_begin[k];
  const int end = t.place_begin[k + 1];
  const int w = s.want[k];
  if (end - begin > 8) return level_places(t, s, begin, end, w);
  if (end - begin > 2) return level_few<8>(t, s, begin, end - begin, w);
  const int a = t.place_rank[begin];
  const int b = t.place_rank[begin + 1];
  const int took = s.take[begin];
  const int other_a = s.rank_load[a] - took;
  const int other_b = s.rank_load[b] - (w - took);
  const int x = level_two(w, other_a, other_b);
  s.take[begin] = x;
  s.take[begin + 1] = w - x;
  s.rank_load[a] = other_a + x;
  s.rank_load[b] = other_b + (w - x);
  return x != took;
}

/// After this many colours a sweep asks whether it may stop, as in cut_cpu.cc. A sweep in registers
/// never has more colours, so it does not ask.
inline constexpr int kAskedColours = 6;
static_assert(kAskedColours >= kPairColours);
struct NeverStop {
  __device__ bool operator()() const { return false; }
};
struct LevelExpert {
  __device__ bool operator()(const BlockTables& t, const BlockState& s, int k) const {
    return level_expert(t, s, k);
  }
};

/// One sweep over all experts. It ends early if stop() holds, which is asked after every
/// kAskedColours colours. Returns whether a take changed that this thread owns. Ends in a sync.
template <class Team, class Stop = NeverStop, class LevelOne = LevelExpert>
__device__ bool sweep(const BlockTables& t, const BlockState& s, const Team& team, Stop stop = {},
                      LevelOne level_one = {}) {
  bool changed = false;
  int end = 0;
#pragma unroll 1
  for (int colour = 1; colour <= t.num_colours; ++colour) {
    const int begin = end;
    end = t.colour_begin[colour];
#pragma unroll 1
    for (int k = begin + team.thread(); k < end; k += team.num_threads()) {
      changed |= level_one(t, s, k);
    }
    team.sync();
    if (colour % kAskedColours == 0 && stop()) break;
  }
  return changed;
}

/// Sets rank_load to `fixed`. The last load is nobody's: it is 0x7FFFFFFF, more than any level, and
/// stands for the rank of a place that does not exist.
template <class Team>
__device__ __forceinline__ void put_fixed_loads(const BlockTables& t, const BlockState& s,
                                                const Team& team) {
  // NOTE: all threads run every iteration, so that warps stay together.
#pragma unroll 1
  for (int first = 0; first < t.num_ranks; first += team.num_threads()) {
    const int g = first + team.thread();
    if (g < t.num_ranks) s.rank_load[g] = s.fixed[g];
  }
  if (team.thread() == 0) s.rank_load[t.num_ranks] = 0x7FFFFFFF;
}

/// share_evenly() of sweep.cc: sets take, and rank_load from `fixed`, nobody's included. Ends in a
/// sync.
template <class Team>
__device__ void share_evenly(const BlockTables& t, const BlockState& s, const Team& team) {
  put_fixed_loads(t, s, team);
  team.sync();
#pragma unroll 1
  for (int first = 0; first < t.num_replicated; first += team.num_threads()) {
    const int k = first + team.thread();
    const int begin = k < t.num_replicated ? t.place_begin[k] : 0;
    const int count = k < t.num_replicated ? t.place_begin[k + 1] - begin : 0;
    const int w = count > 0 ? s.want[k] : 0;
    const int each = t.divide(w, max(count, 1));
    const int extra = w - each * count;
    int rank = t.place_rank[begin];
#pragma unroll 1
    for (int i = 0; i < count; ++i) {
      const int next_rank = t.place_rank[begin + min(i + 1, count - 1)];
      const int x = each + (i < extra ? 1 : 0);
      s.take[begin + i] = x;
      atomicAdd(&s.rank_load[rank], x);
      rank = next_rank;
    }
    __syncwarp();
  }
  team.sync();
}

/// The sweeps of a team. If the team is a warp and all experts have two places, it keeps them in
/// registers, one expert for each lane and colour. Then a sweep costs two reads and two writes a
/// colour.
template <class Team>
class Sweeper {
 public:
  __device__ __forceinline__ Sweeper(const BlockTables& t, const BlockState& s, const Team& team)
      : t_(t), s_(s), team_(team), in_registers_(keeps_pairs(t)) {
    if (!in_registers_) return;
#pragma unroll
    for (int c = 0; c < kPairColours; ++c) {
      place_[c] = -1;
      if (c >= t_.num_colours) continue;
      const int k = t_.colour_begin[c] + team_.thread();
      if (k >= t_.colour_begin[c + 1]) continue;
      place_[c] = t_.place_begin[k];
      first_[c] = t_.place_rank[place_[c]];
      second_[c] = t_.place_rank[place_[c] + 1];
      want_[c] = s_.want[k];
      take_[c] = s_.take[place_[c]];
    }
  }

  static __device__ __forceinline__ bool keeps_pairs(const BlockTables& t) {
    return Team::kIsWarp && uniform(t.has_pairs) != 0;
  }

  /// One sweep, which ends early if stop() holds. Ends in a sync.
  template <class Stop = NeverStop>
  __device__ __forceinline__ void sweep(Stop stop = {}) {
    if (!in_registers_) {
      solvers::sweep(t_, s_, team_, stop);
      return;
    }
#pragma unroll
    for (int c = 0; c < kPairColours; ++c) {
      if (c < t_.num_colours && place_[c] >= 0) {
        const int a = s_.rank_load[first_[c]] - take_[c];
        const int b = s_.rank_load[second_[c]] - (want_[c] - take_[c]);
        const int x = level_two(want_[c], a, b);
        s_.rank_load[first_[c]] = a + x;
        s_.rank_load[second_[c]] = b + (want_[c] - x);
        take_[c] = x;
      }
      __syncwarp();
    }
  }

  /// Writes what the registers hold. Ends in a sync.
  __device__ __forceinline__ void finish() const {
    if (!in_registers_) return;
#pragma unroll
    for (int c = 0; c < kPairColours; ++c) {
      if (c >= t_.num_colours || place_[c] < 0) continue;
      s_.take[place_[c]] = take_[c];
      s_.take[place_[c] + 1] = want_[c] - take_[c];
    }
    __syncwarp();
  }

 private:
  const BlockTables& t_;
  const BlockState& s_;
  const Team& team_;
  const bool in_registers_;
  int place_[kPairColours];
  int first_[kPairColours];
  int second_[kPairColours];
  int want_[kPairColours];
  int take_[kPairColours];
};

/// The sweeps of a team that has a thread for each expert, if experts have few places. All of an
/// expert is in registers but the loads of its ranks.
template <class Team>
class ExpertSweeper {
 public:
  static constexpr int kMostPlaces = 8;

  static __device__ __forceinline__ bool takes(const BlockTables& t, const Team& team) {
    return t.num_replicated <= team.num_threads() && t.most_places <= kMostPlaces;
  }

  __device__ ExpertSweeper(const BlockTables& t, const BlockState& s, const Team& team)
      : t_(t), s_(s), team_(team) {}

  /// share_evenly(), which keeps all takes in registers. Ends in a sync.
  __device__ __forceinline__ void share() {
    put_fixed_loads(t_, s_, team_);
    const int k = team_.thread();
    const bool is_expert = k < t_.num_replicated;
    begin_ = is_expert ? t_.place_begin[k] : 0;
    count_ = is_expert ? t_.place_begin[k + 1] - begin_ : 0;
    want_ = is_expert ? s_.want[k] : 0;
    const int each = t_.divide_by_few(want_, max(count_, 1));
    const int extra = want_ - each * count_;
#pragma unroll
    for (int i = 0; i < kMostPlaces; ++i) {
      const int place = begin_ + min(i, max(count_ - 1, 0));
      // NOTE: a place that does not exist is on nobody, who carries more than any level.
      rank_[i] = i < count_ ? t_.place_rank[place] : t_.num_ranks;
      take_[i] = i < count_ ? each + (i < extra ? 1 : 0) : 0;
    }
    team_.sync();
#pragma unroll
    for (int i = 0; i < kMostPlaces; ++i) {
      if (i < count_) atomicAdd(&s_.rank_load[rank_[i]], take_[i]);
    }
    set_ = members<kMostPlaces>([&](int i) { return take_[i] > 0; });
    reciprocal_ = t_.reciprocal[count_of(set_)];
    team_.sync();
  }

  /// One sweep. Ends in a sync.
  __device__ __forceinline__ void sweep() {
    int begin = 0;
    int end = t_.colour_begin[1];
#pragma unroll 1
    for (int colour = 1; colour <= t_.num_colours; ++colour) {
      const int next_end = t_.colour_begin[min(colour + 1, t_.num_colours)];
      if (team_.thread() >= begin && team_.thread() < end) {
        if (t_.most_places == 2) {
          level_pair();
        } else {
          level();
        }
      }
      team_.sync();
      begin = end;
      end = next_end;
    }
  }

  /// Writes what the registers hold. A sync must follow.
  __device__ __forceinline__ void finish() const {
#pragma unroll
    for (int i = 0; i < kMostPlaces; ++i) {
      if (i < count_) s_.take[begin_ + i] = take_[i];
    }
  }

 private:
  __device__ __forceinline__ void level_pair() {
    const int a = s_.rank_load[rank_[0]] - take_[0];
    const int b = s_.rank_load[rank_[1]] - take_[1];
    take_[0] = level_two(want_, a, b);
    take_[1] = want_ - take_[0];
    s_.rank_load[rank_[0]] = a + take_[0];
    s_.rank_load[rank_[1]] = b + take_[1];
  }

  __device__ __forceinline__ void level() {
    int other[kMostPlaces];
#pragma unroll
    for (int i = 0; i < kMostPlaces; ++i) other[i] = s_.rank_load[rank_[i]] - take_[i];
    if (set_ == 0) return;  // no tokens
    set_ = level_held(t_, want_, other, set_, reciprocal_, take_);
#pragma unroll
    for (int i = 0; i < kMostPlaces; ++i) {
      if (i < count_) s_.rank_load[rank_[i]] = other[i] + take_[i];
    }
    reciprocal_ = t_.reciprocal[count_of(set_)];
  }

  const BlockTables& t_;
  const BlockState& s_;
  const Team& team_;
  int begin_;
  int count_;
  int want_;
  int rank_[kMostPlaces];
  int take_[kMostPlaces];
  unsigned set_;         // the places that the next sweep starts from
  unsigned reciprocal_;  // that of their number
};

}  // namespace lplb::solvers
