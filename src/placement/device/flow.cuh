// SPDX-License-Identifier: MIT
#pragma once

#include "placement/device/memory.cuh"

namespace lplb::placement {

/// WindowJudge::solve() of one batch, by one warp, with the same paths and cuts. All lanes know the
/// sets of ranks; lane l has the loads of ranks l, 32 + l and so on.
template <int kWords>
class BatchFlow {
 public:
  using Set = RankSet<kWords>;

  __device__ __forceinline__ BatchFlow(const SearchArrays<kWords>& arrays, int side, int batch)
      : a_(arrays),
        batch_(batch),
        take_(arrays.take_of(side, batch)),
        load_(arrays.load_of(side, batch)),
        givers_(max(1, device::kWarpSize / arrays.slots)),
        parts_((arrays.slots + device::kWarpSize - 1) / device::kWarpSize),
        my_giver_(parts_ == 1 ? arrays.lane / arrays.slots : 0),
        my_slot_(parts_ == 1 ? arrays.lane % arrays.slots : arrays.lane) {}

  /// Raises `level` to the least at which everything fits. Gives up after the first cut that is
  /// worth more than `slack` above `lower`, times the batch's weight. Notes the cuts, and how many.
  /// Returns the level.
  ///
  /// NOTE: a rank finds at most num_ranks cuts, each within the one before; so num_ranks^2 are the
  /// most.
  __device__ __forceinline__ int solve(int level, int lower, long long slack) {
    level_ = level;
    int num_found = 0;
    const long long weight = a_.weight[batch_];
    __syncwarp();
#pragma unroll 1
    for (int rank = read_loads(); rank >= 0; rank = read_loads()) {
      const int end = find_path(rank);
      if (end >= 0) {
        push(rank, end);
        continue;
      }
      raise_to_cut();
      note_cut(num_found++);
      if (weight * (level_ - lower) > slack) break;
    }
    if (a_.lane == 0) a_.num_found[batch_] = num_found;
    return level_;
  }

 private:
  /// Finds the ranks that have room. Returns the lowest rank above the level, or -1.
  __device__ __forceinline__ int read_loads() {
    Set over;
#pragma unroll
    for (int w = 0; w < kWords; ++w) {
      const int rank = 32 * w + a_.lane;
      mine_[w] = rank < a_.num_ranks ? load_[rank] : level_;
      over.word[w] = __ballot_sync(kAllLanes, mine_[w] > level_);
      room_.word[w] = __ballot_sync(kAllLanes, mine_[w] < level_);
    }
    return over.first();
  }

  /// WindowJudge::find_path(): `reached_` are the ranks that `rank` could give to, and itself.
  __device__ __forceinline__ int find_path(int rank) {
    reached_ = Set::none().with(rank);
    if (a_.lane == 0) a_.queue[0] = static_cast<unsigned char>(rank);
    __syncwarp();
    int begin = 0;
    int end = 1;
#pragma unroll 1
    while (begin < end) {
      const int level_end = end;  // of those that are as far from `rank`
#pragma unroll 1
      for (; begin < level_end; begin += givers_) {
        const int at = begin + my_giver_;
        const bool gives = my_giver_ < givers_ && at < level_end;
        const int giver = gives ? a_.queue[at] : 0;
#pragma unroll 1
        for (int part = 0; part < parts_; ++part) {
          const int found = look(gives, giver * a_.slots, my_slot_ + part * device::kWarpSize, end);
          if (found >= 0) return found;
        }
      }
      begin = level_end;
      __syncwarp();
    }
    return -1;
  }

  /// Reaches what slot `i` of each lane's giver, whose first slot is `first`, can give to: lane
  /// after lane, in the order of the circle. Returns a rank that has room, or -1.
  __device__ __forceinline__ int look(bool gives, int first, int i, int& end) {
    Set targets = Set::none();
    const int from = first + i;
    if (gives && i < a_.slots && take_[from] != 0) {
      targets = a_.ranks[a_.expert[from]].minus(reached_);
    }
    unsigned lanes = __ballot_sync(kAllLanes, !targets.is_empty());
#pragma unroll 1
    for (; lanes != 0; lanes &= lanes - 1) {
      const int lane = __ffs(static_cast<int>(lanes)) - 1;
      const Set left = targets.of_lane(lane).minus(reached_);
      if (left.is_empty()) continue;
      const int source = __shfl_sync(kAllLanes, from, lane);
      const unsigned giver = static_cast<unsigned>(source / a_.slots) << 24;
      for (unsigned hop = a_.hop[source]; a_.next_of(hop) != source;
           hop = a_.hop[a_.next_of(hop)]) {
        const int taker = a_.rank_of(hop);
        if (!left.has(taker)) continue;
        if (a_.lane == 0) {
          a_.queue[end] = static_cast<unsigned char>(taker);
          a_.step[taker] =
              giver | static_cast<unsigned>(source) << 12 | static_cast<unsigned>(a_.next_of(hop));
        }
        ++end;
        if (room_.has(taker)) return taker;
      }
      reached_ = reached_.with_all(left);
    }
    return -1;
  }

  /// WindowJudge::push().
  __device__ __forceinline__ void push(int rank, int end) {
    __syncwarp();
    int tokens = min(load_[rank] - level_, level_ - load_[end]);
#pragma unroll 1
    for (int g = end; g != rank;) {
      const unsigned step = a_.step[g];
      tokens = min(tokens, take_[step >> 12 & 0xFFF]);
      g = static_cast<int>(step >> 24);
    }
    __syncwarp();
    if (a_.lane == 0) {
#pragma unroll 1
      for (int g = end; g != rank;) {
        const unsigned step = a_.step[g];
        take_[step >> 12 & 0xFFF] -= tokens;
        take_[step & 0xFFF] += tokens;
        g = static_cast<int>(step >> 24);
      }
      load_[rank] -= tokens;
      load_[end] += tokens;
    }
    __syncwarp();
  }

  /// What these ranks carry could not be elsewhere, and none of them has room.
  __device__ __forceinline__ void raise_to_cut() {
    int sum = 0;
#pragma unroll
    for (int w = 0; w < kWords; ++w) {
      sum += (reached_.word[w] >> a_.lane & 1) != 0 ? mine_[w] : 0;
    }
    sum = __reduce_add_sync(kAllLanes, sum);
    const int count = reached_.count();
    // NOTE: unsigned, because the sum plus the count may pass 2^31.
    level_ = static_cast<int>((static_cast<unsigned>(sum) + static_cast<unsigned>(count) - 1) /
                              static_cast<unsigned>(count));
  }

  __device__ __forceinline__ void note_cut(int i) const {
    unsigned* const cut = a_.found_cut(batch_, i);
    if (a_.lane != 0) return;
#pragma unroll
    for (int w = 0; w < kWords; ++w) cut[w] = reached_.word[w];
    cut[kWords] = static_cast<unsigned>(level_);
  }

  const SearchArrays<kWords> a_;
  const int batch_;
  int* const take_;
  int* const load_;
  // A search looks at `givers_` ranks at once, a lane for each of their slots, or at one rank in
  // `parts_`.
  const int givers_, parts_, my_giver_, my_slot_;
  int level_ = 0;
  int mine_[kWords];  // loads of this lane's ranks
  Set room_, reached_;
};

}  // namespace lplb::placement
