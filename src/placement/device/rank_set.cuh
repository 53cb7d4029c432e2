// SPDX-License-Identifier: MIT
#pragma once

#include "core/host_device.h"

namespace lplb::placement {

/// A set of up to 32 kWords ranks, in registers or in memory.
template <int kWords>
struct RankSet {
  unsigned word[kWords];

  static __device__ __forceinline__ RankSet none() {
    RankSet set;
#pragma unroll
    for (int w = 0; w < kWords; ++w) set.word[w] = 0;
    return set;
  }

  // NOTE: not a choice of a word, which the compiler would make by its address; then the set would
  // be in memory.
  __device__ __forceinline__ bool has(int rank) const {
    unsigned is_in = 0;
#pragma unroll
    for (int w = 0; w < kWords; ++w) {
      is_in |= word[w] >> rank % 32 & (rank / 32 == w ? 1u : 0u);
    }
    return is_in != 0;
  }
  __device__ __forceinline__ RankSet with(int rank) const {
    RankSet set = *this;
#pragma unroll
    for (int w = 0; w < kWords; ++w) set.word[w] |= rank / 32 == w ? 1u << rank % 32 : 0;
    return set;
  }
  __device__ __forceinline__ RankSet without(int rank) const {
    RankSet set = *this;
#pragma unroll
    for (int w = 0; w < kWords; ++w) set.word[w] &= rank / 32 == w ? ~(1u << rank % 32) : ~0u;
    return set;
  }
  __device__ __forceinline__ RankSet minus(const RankSet& other) const {
    RankSet set;
#pragma unroll
    for (int w = 0; w < kWords; ++w) set.word[w] = word[w] & ~other.word[w];
    return set;
  }
  __device__ __forceinline__ RankSet with_all(const RankSet& other) const {
    RankSet set;
#pragma unroll
    for (int w = 0; w < kWords; ++w) set.word[w] = word[w] | other.word[w];
    return set;
  }
  __device__ __forceinline__ bool is_empty() const {
    unsigned all = 0;
#pragma unroll
    for (int w = 0; w < kWords; ++w) all |= word[w];
    return all == 0;
  }
  __device__ __forceinline__ bool is_within(const RankSet& other) const {
    return minus(other).is_empty();
  }
  __device__ __forceinline__ int count() const {
    int sum = 0;
#pragma unroll
    for (int w = 0; w < kWords; ++w) sum += __popc(word[w]);
    return sum;
  }
  /// The lowest rank; -1: there is none.
  __device__ __forceinline__ int first() const {
    int rank = -1;
#pragma unroll
    for (int w = kWords - 1; w >= 0; --w) {
      rank = word[w] != 0 ? 32 * w + __ffs(static_cast<int>(word[w])) - 1 : rank;
    }
    return rank;
  }
  /// The ranks that any lane has. All lanes call it.
  __device__ __forceinline__ RankSet of_all() const {
    RankSet set;
#pragma unroll
    for (int w = 0; w < kWords; ++w) set.word[w] = __reduce_or_sync(~0u, word[w]);
    return set;
  }
  /// The set that lane `lane` has. All lanes call it.
  __device__ __forceinline__ RankSet of_lane(int lane) const {
    RankSet set;
#pragma unroll
    for (int w = 0; w < kWords; ++w) set.word[w] = __shfl_sync(~0u, word[w], lane);
    return set;
  }
};

}  // namespace lplb::placement
