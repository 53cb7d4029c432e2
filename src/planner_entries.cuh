// SPDX-License-Identifier: MIT
#pragma once

#include "core/expert_id.h"
#include "core/ptx.cuh"
#include "core/rows.cuh"
#include "map/find_segment.h"
#include "planner_device.h"

namespace lplb {

/// A block's shared memory, by name.
class PlanMemory {
 public:
  __device__ PlanMemory(const PlanArgs& args, void* memory)
      : a_(args), m_(static_cast<unsigned char*>(memory)) {}

  __device__ const PlanHeader& header() const { return h_; }
  __device__ PlanSegment* segments() { return &at<PlanSegment>(a_.layout.segments); }
  __device__ int* received(int block) {
    return &at<int>(a_.layout.received) + block * (a_.layout.max_columns + 1);
  }

 protected:
  static constexpr int kFirstBytes = 2 * 16 * kPlanThreads;  // of the image, header included

  template <class T>
  __device__ T& at(int offset) const {
    return *reinterpret_cast<T*>(m_ + offset);
  }
  __device__ const unsigned char* image() const { return m_ + a_.layout.image; }
  template <class T>
  __device__ const T* list(int offset) const {
    return reinterpret_cast<const T*>(image() + offset);
  }
  __device__ static int thread() { return static_cast<int>(threadIdx.x); }
  __device__ int* numbers() const { return &at<int>(a_.layout.numbers); }
  __device__ int* totals() const { return &at<int>(a_.layout.totals); }
  /// The first two segments of each expert, as PlanHead's members one after the other.
  __device__ int* heads() const { return &at<int>(a_.layout.heads); }
  __device__ void copy_image(int begin, int end) {
    LPLB_ROLLED
    for (int i = begin + 16 * thread(); i < end; i += 16 * kPlanThreads) {
      device::copy_16(m_ + a_.layout.image + i, a_.image + i);
    }
  }

  const PlanArgs& a_;
  unsigned char* const m_;
  PlanHeader h_;  // once the image is there
};

/// A block's entries of topk_idx. Each warp has a stretch of them, rows of 32 neighbours that it
/// takes a chunk at a time. They pass through the warp's "slots" in shared memory: first an id,
/// then what became of it. Where a stretch is longer than the slots it is taken in rounds, and read
/// twice.
class PlanEntries : public PlanMemory {
 public:
  __device__ PlanEntries(const PlanArgs& args, void* memory)
      : PlanMemory(args, memory),
        room_(device::kRow *
              (args.id_bytes == 8 ? args.layout.held_rows / 2 : args.layout.held_rows)) {
    first_ = static_cast<long long>(blockIdx.x * kPlanWarps + warp_of_block()) * a_.stretch;
    length_ = static_cast<int>(clamp_to(a_.num_entries - first_, a_.stretch));
  }

  /// Counts the entries of this block: numbers[warp, k], totals of ranks with single experts. The
  /// first round is staged. Ends in a barrier, behind which all that was copied is there.
  __device__ void count() {
    int bad = 0;
    LPLB_ROLLED
    for (int from = 0; from < length_; from += room_) {
      if (from > 0) restage(from);
      LPLB_ROLLED
      for (int at = 0; at < in_round(from); at += kChunk * device::kRow) {
        Chunk chunk;
        bad += number<true>(from, at, chunk);
#pragma unroll
        for (int i = 0; i < kChunk; ++i) {
          const int e = at + i * device::kRow + device::lane_id();
          if (e >= in_round(from)) break;
          code_in_slot(e) = is_choice(chunk.code[i])
                                ? chunk.number[i] << kExpertBits | chunk.code[i]
                                : chunk.code[i];
        }
      }
    }
    bad = __reduce_add_sync(~0u, bad);
    if (bad != 0 && device::lane_id() == 0) atomicAdd(&totals()[h_.num_columns], bad);
    device::wait_for_copies();
    __syncthreads();
  }

  /// numbers[warp, k] -> entries of k in earlier warps of the block; totals: of the block.
  __device__ void number_warps() {
    LPLB_ROLLED
    for (int k = thread(); k < h_.num_replicated; k += kPlanThreads) {
      int* const mine = numbers() + k;
      int total = 0;
#pragma unroll 1
      for (int first = 0; first < kPlanWarps; first += kChunk) {
        int here[kChunk];
#pragma unroll
        for (int i = 0; i < kChunk; ++i) here[i] = mine[(first + i) * h_.num_replicated];
#pragma unroll
        for (int i = 0; i < kChunk; ++i) {
          mine[(first + i) * h_.num_replicated] = total;
          total += here[i];
        }
      }
      totals()[k] = total;
    }
  }

  /// numbers += tokens of earlier blocks, from the totals in received(); for a kernel that maps
  /// without gather(). Ends in a barrier.
  __device__ void number_blocks() {
    LPLB_ROLLED
    for (int k = thread(); k < h_.num_replicated; k += kPlanThreads) {
      int before = 0;
      LPLB_ROLLED
      for (int block = 0; block < static_cast<int>(blockIdx.x); ++block)
        before += received(block)[k];
      LPLB_ROLLED
      for (int warp = 0; warp < kPlanWarps; ++warp) {
        numbers()[warp * h_.num_replicated + k] += before;
      }
    }
    __syncthreads();
  }

  /// What map() reads of expert k first, from its segments.
  __device__ void make_head(int k) {
    const PlanSegment* const from = segments() + list<std::uint16_t>(h_.replica_begin)[k];
    heads()[k] = from[0].end;
    heads()[k + h_.num_replicated] = from[1].end;
    heads()[k + 2 * h_.num_replicated] = from[0].physical | from[1].physical << 16;
  }
  /// Of all experts, from segments made elsewhere. Ends in a barrier.
  __device__ void make_heads() {
    LPLB_ROLLED
    for (int k = thread(); k < h_.num_replicated; k += kPlanThreads) make_head(k);
    __syncthreads();
  }

  /// Writes where each entry of this block goes.
  __device__ void map() {
    const bool is_held = length_ <= room_;
    const int* const base = my_numbers();
    LPLB_ROLLED
    for (int from = 0; from < length_; from += room_) {
      if (!is_held) restage(from);
      LPLB_ROLLED
      for (int at = 0; at < in_round(from); at += kChunk * device::kRow) {
        Chunk chunk;
        if (is_held) {
#pragma unroll
          for (int i = 0; i < kChunk; ++i) {
            const int e = at + i * device::kRow + device::lane_id();
            chunk.code[i] = e < length_ ? code_in_slot(e) : kNothing;
          }
#pragma unroll
          for (int i = 0; i < kChunk; ++i) {
            if (!is_choice(chunk.code[i])) continue;
            chunk.number[i] = chunk.code[i] >> kExpertBits;
            chunk.code[i] &= (1 << kExpertBits) - 1;
            chunk.number[i] += base[chunk.code[i]];
          }
        } else {
          number<false>(from, at, chunk);
        }
        write(from, at, chunk);
      }
    }
  }

 protected:
  /// Starts to read a round of this warp's entries.
  __device__ void stage(int from) {
    const int bytes = in_round(from) * a_.id_bytes;
    const char* const source =
        static_cast<const char*>(a_.topk_idx) + (first_ + from) * a_.id_bytes;
    char* const target = static_cast<char*>(slot(0));
    // NOTE: a row is a multiple of 16 bytes, so that one test does for all.
    const bool is_wide = reinterpret_cast<std::uintptr_t>(a_.topk_idx) % 16 == 0;
    const int wide = is_wide ? bytes & ~15 : 0;
    LPLB_ROLLED
    for (int i = 16 * device::lane_id(); i < wide; i += 16 * device::kRow) {
      device::copy_16(target + i, source + i);
    }
    LPLB_ROLLED
    for (int i = wide + a_.id_bytes * device::lane_id(); i < bytes;
         i += a_.id_bytes * device::kRow) {
      if (a_.id_bytes == 8) {
        device::copy_8(target + i, source + i);
      } else {
        device::copy_4(target + i, source + i);
      }
    }
  }

  /// What is told of the batch's length.
  __device__ void read_valid() {
    num_valid_ = a_.num_valid_tokens != nullptr ? *a_.num_valid_tokens : a_.num_tokens;
    valid_ = static_cast<int>(clamp_to(valid_entries() - first_, length_));
  }
  __device__ bool is_clamped() const { return num_valid_ < 0 || num_valid_ > a_.num_tokens; }
  __device__ int valid_entries() const {
    return min(max(num_valid_, 0), a_.num_tokens) * a_.num_topk;
  }

 private:
  static constexpr int kChunk = 4;     // rows whose waits overlap
  static constexpr int kNothing = -1;  // code of what goes nowhere

  /// What a chunk's entries of this lane are: what PlanHeader::experts says or kNothing; of an
  /// expert with several replicas, its number.
  struct Chunk {
    int code[kChunk];
    int number[kChunk];
  };

  __device__ static long long clamp_to(long long value, int most) {
    return min(max(value, 0ll), static_cast<long long>(most));
  }
  __device__ static int warp_of_block() { return static_cast<int>(threadIdx.x / device::kRow); }
  __device__ int in_round(int from) const { return min(length_ - from, room_); }
  /// Of this warp.
  __device__ void* slot(int i) const {
    return &at<char>(a_.layout.held) + (warp_of_block() * room_ + i) * a_.id_bytes;
  }
  __device__ int& code_in_slot(int i) const { return *static_cast<int*>(slot(i)); }
  __device__ int* my_numbers() const { return numbers() + warp_of_block() * h_.num_replicated; }

  __device__ void restage(int from) {
    __syncwarp();
    stage(from);
    device::wait_for_copies();
    __syncwarp();
  }

  /// Whether a code is that of an expert with several replicas: k.
  __device__ static bool is_choice(int code) { return code >= 0 && code < kSingle; }

  /// Reads the chunk at `at` of the round that begins at `from`, and takes numbers: those of expert
  /// k with several replicas count on from numbers[warp, k]. `kTotals`: also counts those with one.
  /// Returns how many ids are bad. NOTE: in loops over all rows, so that their waits overlap. What
  /// a counter gives follows the order of the rows: that of the atomic operations, a barrier of the
  /// warp between any two.
  template <bool kTotals>
  __device__ __forceinline__ int number(int from, int at, Chunk& chunk) {
    const int lane = device::lane_id();
    const int valid = min(valid_ - from, in_round(from)) - at - lane;
    int id[kChunk];
    if (a_.id_bytes == 8) {
      const auto* const ids = static_cast<const std::int64_t*>(slot(at + lane));
#pragma unroll
      for (int i = 0; i < kChunk; ++i) {
        id[i] = i * device::kRow < valid ? device::narrow_id(ids[i * device::kRow]) : -1;
      }
    } else {
      const auto* const ids = static_cast<const std::int32_t*>(slot(at + lane));
#pragma unroll
      for (int i = 0; i < kChunk; ++i) {
        id[i] = i * device::kRow < valid ? ids[i * device::kRow] : -1;
      }
    }
    int bad = 0;
    unsigned peers[kChunk];  // the lanes that have the same expert with several replicas
#pragma unroll
    for (int i = 0; i < kChunk; ++i) {
      const bool known = is_expert(id[i], h_.num_logical);
      bad += !known && id[i] != -1 ? 1 : 0;
      chunk.code[i] = known ? list<int>(h_.experts)[id[i]] : kNothing;
      peers[i] = __ballot_sync(~0u, is_choice(chunk.code[i]));
    }
    // NOTE: a vote a bit: match.any takes two cycles of the whole SM for each key that differs.
    LPLB_ROLLED
    for (int bit = 1; bit < h_.num_replicated; bit *= 2) {
#pragma unroll
      for (int i = 0; i < kChunk; ++i) {
        const bool is_set = (chunk.code[i] & bit) != 0;
        const unsigned votes = __ballot_sync(~0u, is_set);
        peers[i] &= is_set ? votes : ~votes;
      }
    }
    int* const mine = my_numbers();
    const unsigned earlier = (1u << lane) - 1;
#pragma unroll
    for (int i = 0; i < kChunk; ++i) {
      const int code = chunk.code[i];
      chunk.number[i] = 0;
      if (is_choice(code) && (peers[i] & earlier) == 0) {
        chunk.number[i] = atomicAdd(mine + code, __popc(peers[i]));
      }
      if (kTotals && code >= kSingle) {
        atomicAdd(totals() + h_.num_replicated + ((code & (kSingle - 1)) >> kExpertBits), 1);
      }
      __syncwarp();
    }
#pragma unroll
    for (int i = 0; i < kChunk; ++i) {
      chunk.number[i] = __shfl_sync(~0u, chunk.number[i], (__ffs(peers[i]) - 1) & 31) +
                        __popc(peers[i] & earlier);
    }
    return bad;
  }

  /// Writes the chunk at `at` of the round. NOTE: not beyond the round: where ids are written in
  /// place, those of the next one have yet to be read.
  __device__ __forceinline__ void write(int from, int at, const Chunk& chunk) {
    PlanHead head[kChunk];
#pragma unroll
    for (int i = 0; i < kChunk; ++i) {
      if (!is_choice(chunk.code[i])) continue;
      head[i] = {heads()[chunk.code[i]], heads()[chunk.code[i] + h_.num_replicated],
                 heads()[chunk.code[i] + 2 * h_.num_replicated]};
    }
    int physical[kChunk];
#pragma unroll
    for (int i = 0; i < kChunk; ++i) {
      physical[i] = chunk.code[i] >= kSingle ? chunk.code[i] & ((1 << kExpertBits) - 1) : kNothing;
      if (!is_choice(chunk.code[i])) continue;
      physical[i] = chunk.number[i] < head[i].first_end    ? head[i].physical & 0xFFFF
                    : chunk.number[i] < head[i].second_end ? head[i].physical >> 16
                                                           : find(chunk.code[i], chunk.number[i]);
    }
    const int lane = device::lane_id();
    const int left = in_round(from) - at - lane;
    const long long e = first_ + from + at + lane;
    if (a_.rank_idx != nullptr) {
#pragma unroll
      for (int i = 0; i < kChunk; ++i) {
        if (i * device::kRow < left) {
          physical[i] =
              split(a_.rank_idx, a_.id_bytes, e + i * device::kRow, physical[i], h_.slots_per_rank);
        }
      }
    }
    if (a_.id_bytes == 8) {
      store(static_cast<std::int64_t*>(a_.physical_idx) + e, left, physical);
    } else {
      store(static_cast<std::int32_t*>(a_.physical_idx) + e, left, physical);
    }
  }

  /// Past the expert's first two segments.
  __device__ int find(int k, int number) {
    return map::find_physical(segments() + list<std::uint16_t>(h_.replica_begin)[k] + 2, number);
  }

  template <class Id>
  __device__ __forceinline__ static void store(Id* to, int left, const int (&physical)[kChunk]) {
#pragma unroll
    for (int i = 0; i < kChunk; ++i) {
      if (i * device::kRow < left) to[i * device::kRow] = physical[i];
    }
  }

  /// Stores the rank; returns the slot on it. Rare: not among the code that every batch fetches.
  __device__ __noinline__ static int split(void* rank_idx, int id_bytes, long long entry,
                                           int physical, int slots_per_rank) {
    const int rank = physical < 0 ? -1 : physical / slots_per_rank;
    device::store_id(rank_idx, id_bytes, entry, rank);
    return physical < 0 ? physical : physical - rank * slots_per_rank;
  }

  const int room_;   // entries that a round has
  long long first_;  // entry of this warp's stretch
  int length_;       // of the stretch
  int valid_ = 0;    // of these
  int num_valid_ = 0;
};

}  // namespace lplb
