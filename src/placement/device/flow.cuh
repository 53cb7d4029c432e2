// SPDX-License-Identifier: MIT
#pragma once

#include "core/ptx.cuh"
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
        load_(arrays.load_of(side, batch)) {}

  /// Raises `level` to the least at which everything fits. Notes the cuts that show it, and how
  /// many. Returns the level. With `lower` [num_batches], the levels that the batches of a trial
  /// begin at, it gives up when the trial is known to fail at this batch or before: when what these
  /// batches have reached above `lower`, by their weights, is more than `slack`.
  ///
  /// NOTE: a rank finds at most num_ranks cuts, each within the one before; so num_ranks^2 are the
  /// most.
  __device__ __forceinline__ int solve(int level, const int* lower, long long slack,
                                       int num_batches) {
    level_ = level;
    int num_found = 0;
    __syncwarp();
    read_loads();
#pragma unroll 1
    for (int rank = over_.first(); rank >= 0; rank = over_.first()) {
      if (lower != nullptr && has_failed()) break;
      const int end = find_path(rank);
      if (end >= 0) {
        push(rank, end);
        continue;
      }
      raise_to_cut();
      note_cut(num_found++);
      if (lower != nullptr) note_failure(lower, slack, num_batches);
      read_loads();
    }
    if (a_.lane == 0) a_.num_found[batch_] = num_found;
    return level_;
  }

 private:
  /// Finds the ranks that are above the level, and those that have room.
  __device__ __forceinline__ void read_loads() {
#pragma unroll
    for (int w = 0; w < kWords; ++w) {
      const int load = load_of_lane(w);
      over_.word[w] = __ballot_sync(kAllLanes, load > level_);
      room_.word[w] = __ballot_sync(kAllLanes, load < level_);
    }
  }
  /// The load of this lane's rank in word w; without one the level.
  __device__ __forceinline__ int load_of_lane(int w) const {
    const int rank = 32 * w + a_.lane;
    return rank < a_.num_ranks ? load_[rank] : level_;
  }

  /// Whether the trial is known to fail at this batch or before. NOTE: one lane reads it for all,
  /// because it may change between the reads of two lanes.
  __device__ __forceinline__ bool has_failed() const {
    return __shfl_sync(kAllLanes, device::read_relaxed(&a_.scalars->failed), 0) <= batch_;
  }

  /// Notes the first batch at which the levels that all have reached are too much together.
  __device__ __forceinline__ void note_failure(const int* lower, long long slack,
                                               int num_batches) const {
    long long before = 0;
#pragma unroll 1
    for (int first = 0; first < num_batches; first += device::kWarpSize) {
      const int b = first + a_.lane;
      long long sum = 0;
      if (b < num_batches) {
        const int level = b == batch_ ? level_ : device::read_relaxed(&a_.reached[b]);
        sum = a_.weight[b] * (level - lower[b]);
      }
#pragma unroll
      for (int far = 1; far < device::kWarpSize; far *= 2) {
        const long long other = __shfl_sync(kAllLanes, sum, max(a_.lane - far, 0));
        sum += a_.lane >= far ? other : 0;
      }
      const unsigned above = __ballot_sync(kAllLanes, b < num_batches && before + sum > slack);
      if (above != 0) {
        if (a_.lane == 0) {
          atomicMin(&a_.scalars->failed, first + __ffs(static_cast<int>(above)) - 1);
        }
        break;
      }
      before += __shfl_sync(kAllLanes, sum, device::kWarpSize - 1);
    }
    __syncwarp();
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
      for (; begin < level_end; begin += a_.givers) {
        const int at = begin + a_.my_giver;
        const bool gives = a_.my_giver < a_.givers && at < level_end;
        const int giver = gives ? a_.queue[at] : 0;
#pragma unroll 1
        for (int part = 0; part < a_.parts; ++part) {
          const int found = look(gives, giver, a_.my_slot + part * device::kWarpSize, end);
          if (found >= 0) return found;
        }
      }
      begin = level_end;
      __syncwarp();
    }
    return -1;
  }

  /// Reaches what slot `i` of each lane's giver can give to: lane after lane, in the order of the
  /// circle. Returns a rank that has room, or -1.
  __device__ __forceinline__ int look(bool gives, int giver, int i, int& end) {
    Set targets = Set::none();
    const int from = giver * a_.slots + i;
    const unsigned step = static_cast<unsigned>(giver) << 24 | static_cast<unsigned>(from) << 12;
    if (gives && i < a_.slots && take_[from] != 0) {
      targets = a_.ranks[a_.expert[from]].minus(reached_);
    }
    const int count = targets.count();
    unsigned lanes = __ballot_sync(kAllLanes, count != 0);
    if (lanes == 0) return -1;
    const Set all = targets.of_all();
    if (all.count() == __popc(lanes) && !__any_sync(kAllLanes, count > 1)) {
      return reach_all(targets, all, lanes, step, end);
    }
#pragma unroll 1
    for (; lanes != 0; lanes &= lanes - 1) {
      const int lane = __ffs(static_cast<int>(lanes)) - 1;
      const Set left = targets.of_lane(lane).minus(reached_);
      if (left.is_empty()) continue;
      const unsigned its_step = __shfl_sync(kAllLanes, step, lane);
      const int source = static_cast<int>(its_step >> 12 & 0xFFF);
      for (unsigned hop = a_.hop[source]; a_.next_of(hop) != source;
           hop = a_.hop[a_.next_of(hop)]) {
        const int taker = a_.rank_of(hop);
        if (!left.has(taker)) continue;
        if (a_.lane == 0) {
          a_.queue[end] = static_cast<unsigned char>(taker);
          a_.step[taker] = its_step | static_cast<unsigned>(a_.next_of(hop));
        }
        ++end;
        if (room_.has(taker)) return taker;
      }
      reached_ = reached_.with_all(left);
    }
    return -1;
  }

  /// The same if the lanes that have a target have one each, and all have different ones.
  __device__ __forceinline__ int reach_all(const Set& targets, const Set& all, unsigned lanes,
                                           unsigned step, int& end) {
    const int taker = targets.first();
    const bool has_room = taker >= 0 && room_.has(max(taker, 0));
    if (taker >= 0) {
      unsigned hop = a_.hop[step >> 12 & 0xFFF];
      while (a_.rank_of(hop) != taker) hop = a_.hop[a_.next_of(hop)];
      a_.queue[end + __popc(lanes & ((1u << a_.lane) - 1))] = static_cast<unsigned char>(taker);
      a_.step[taker] = step | static_cast<unsigned>(a_.next_of(hop));
    }
    end += __popc(lanes);
    reached_ = reached_.with_all(all);
    const unsigned ends = __ballot_sync(kAllLanes, has_room);
    return ends == 0 ? -1 : __shfl_sync(kAllLanes, taker, __ffs(static_cast<int>(ends)) - 1);
  }

  /// WindowJudge::push().
  __device__ __forceinline__ void push(int rank, int end) {
    __syncwarp();
    const int excess = load_[rank] - level_;
    const int room = level_ - load_[end];
    int tokens = min(excess, room);
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
    if (tokens == excess) over_ = over_.without(rank);
    if (tokens == room) room_ = room_.without(end);
  }

  /// What these ranks carry could not be elsewhere, and none of them has room.
  __device__ __forceinline__ void raise_to_cut() {
    int sum = 0;
#pragma unroll
    for (int w = 0; w < kWords; ++w) {
      sum += (reached_.word[w] >> a_.lane & 1) != 0 ? load_of_lane(w) : 0;
    }
    sum = __reduce_add_sync(kAllLanes, sum);
    const int count = reached_.count();
    // NOTE: unsigned, because the sum plus the count may pass 2^31.
    level_ = static_cast<int>((static_cast<unsigned>(sum) + static_cast<unsigned>(count) - 1) /
                              static_cast<unsigned>(count));
    if (a_.lane == 0) atomicMax(&a_.reached[batch_], level_);
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
  int level_ = 0;
  Set over_, room_;  // ranks above and below the level
  Set reached_;
};

}  // namespace lplb::placement
