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
  __device__ void copy_image(int begin, int end) {
    for (int i = begin + 16 * thread(); i < end; i += 16 * kPlanThreads) {
      device::copy_16(m_ + a_.layout.image + i, a_.image + i);
    }
  }

  const PlanArgs& a_;
  unsigned char* const m_;
  PlanHeader h_;  // once the image is there
};

/// A block's entries of topk_idx: each warp has rows of 32, one after the other. Counts them, then
/// tells where each goes.
class PlanEntries : public PlanMemory {
 public:
  __device__ PlanEntries(const PlanArgs& args, void* memory)
      : PlanMemory(args, memory),
        num_rows_(device::rows_per_warp(num_entries(), static_cast<int>(gridDim.x) * kPlanWarps)) {}

  /// Counts the entries of this block: numbers[warp, k], totals of ranks with single experts. Holds
  /// what became of each entry where there is room. Ends in a barrier.
  __device__ void count() {
    int bad = 0;
    for (int row = 0; row < num_rows_; row += kChunk) {
      int next[kChunk];
      read_chunk(row + kChunk, next);
      Chunk chunk;
      take_chunk(row, true, &chunk, &bad);
#pragma unroll
      for (int i = 0; i < kChunk; ++i) {
        const int code = chunk.code[i];
        if (holds() && row + i < num_rows_) {
          held(row + i) = is_choice(code) ? chunk.number[i] << kExpertBits | code : code;
        }
        ids_[i] = next[i];
      }
    }
    bad = __reduce_add_sync(~0u, bad);
    if (bad != 0 && device::lane_id() == 0) atomicAdd(&totals()[h_.num_columns], bad);
    __syncthreads();
  }

  /// numbers[warp, k] -> entries of k in earlier warps of the block; hands the block's total of
  /// each column (and of bad ids, which come last) to send(column, total).
  template <class Send>
  __device__ void number_warps(Send send) {
    for (int c = thread(); c <= h_.num_columns; c += kPlanThreads) {
      int total = totals()[c];
      if (c < h_.num_replicated) {
        int* const mine = numbers() + c;
#pragma unroll
        for (int warp = 0; warp < kPlanWarps; ++warp) {
          const int here = mine[warp * h_.num_replicated];
          mine[warp * h_.num_replicated] = total;
          total += here;
        }
      }
      send(c, total);
    }
  }

  /// numbers += tokens of earlier blocks, from the totals in received(); for a kernel that maps
  /// without gather(). Ends in a barrier.
  __device__ void number_blocks() {
    for (int k = thread(); k < h_.num_replicated; k += kPlanThreads) {
      int before = 0;
      for (int block = 0; block < static_cast<int>(blockIdx.x); ++block)
        before += received(block)[k];
      for (int warp = 0; warp < kPlanWarps; ++warp) {
        numbers()[warp * h_.num_replicated + k] += before;
      }
    }
    __syncthreads();
  }

  /// Writes where each entry of this block goes.
  __device__ void map() {
    if (!holds()) read_chunk(0, ids_);
    for (int row = 0; row < num_rows_; row += kChunk) {
      Chunk chunk;
      if (holds()) {
        recall_chunk(row, &chunk);
      } else {
        int next[kChunk];
        read_chunk(row + kChunk, next);
        int bad = 0;
        take_chunk(row, false, &chunk, &bad);
#pragma unroll
        for (int i = 0; i < kChunk; ++i) ids_[i] = next[i];
      }
      write_chunk(row, chunk);
    }
  }

 protected:
  __device__ void read_first() { read_chunk(0, ids_); }
  /// What is told of the batch's length, and zeros to count from.
  __device__ void clear() {
    num_valid_ = a_.num_valid_tokens != nullptr ? *a_.num_valid_tokens : a_.num_tokens;
    const int num_numbers = kPlanWarps * a_.layout.max_replicated;
    for (int i = thread(); i < num_numbers; i += kPlanThreads) numbers()[i] = 0;
    for (int i = thread(); i <= a_.layout.max_columns; i += kPlanThreads) totals()[i] = 0;
  }
  __device__ bool is_clamped() const { return num_valid_ < 0 || num_valid_ > a_.num_tokens; }
  __device__ int valid_entries() const {
    return min(max(num_valid_, 0), a_.num_tokens) * a_.num_topk;
  }

 private:
  static constexpr int kChunk = 8;     // rows that a thread reads at once
  static constexpr int kNothing = -1;  // code of what goes nowhere

  __device__ int num_entries() const { return a_.num_tokens * a_.num_topk; }
  __device__ long long entry(int row) const {
    const int warp = static_cast<int>(blockIdx.x) * kPlanWarps + warp_of_block();
    return (static_cast<long long>(warp) * num_rows_ + row) * device::kRow + device::lane_id();
  }
  __device__ static int warp_of_block() { return thread() / device::kRow; }
  __device__ bool is_mine(int row) const { return row < num_rows_ && entry(row) < num_entries(); }
  __device__ bool holds() const { return num_rows_ <= a_.layout.held_rows; }

  /// All reads before the first use; one branch for all of them.
  __device__ void read_chunk(int first_row, int* ids) const {
    if (a_.id_bytes == 8) {
      std::int64_t wide[kChunk];
#pragma unroll
      for (int i = 0; i < kChunk; ++i) {
        wide[i] = is_mine(first_row + i)
                      ? static_cast<const std::int64_t*>(a_.topk_idx)[entry(first_row + i)]
                      : -1;
      }
#pragma unroll
      for (int i = 0; i < kChunk; ++i) ids[i] = device::narrow_id(wide[i]);
      return;
    }
#pragma unroll
    for (int i = 0; i < kChunk; ++i) {
      ids[i] = is_mine(first_row + i)
                   ? static_cast<const std::int32_t*>(a_.topk_idx)[entry(first_row + i)]
                   : -1;
    }
  }

  /// What PlanHeader::experts says of an entry's id, or kNothing.
  __device__ int code_of(int id, int row, bool* is_bad) const {
    const bool is_valid = entry(row) < valid_entries();
    const bool known = is_valid && is_expert(id, h_.num_logical);
    *is_bad = is_valid && !known && id != -1;
    return known ? list<int>(h_.experts)[id] : kNothing;
  }

  /// Whether a code is that of an expert with several replicas: k.
  __device__ static bool is_choice(int code) { return code >= 0 && code < kSingle; }

  /// Of each row what this lane's entry is, and its number among those of its expert where that has
  /// several replicas.
  struct Chunk {
    int code[kChunk];
    int number[kChunk];
  };

  /// Counts the rows in ids_. NOTE: in three loops, so that what does not depend on the counters
  /// need not wait for them.
  __device__ void take_chunk(int first_row, bool with_singles, Chunk* chunk, int* bad) {
    unsigned peers[kChunk];
#pragma unroll
    for (int i = 0; i < kChunk; ++i) {
      bool is_bad;
      chunk->code[i] = code_of(ids_[i], first_row + i, &is_bad);
      *bad += is_bad ? 1 : 0;
    }
#pragma unroll
    for (int i = 0; i < kChunk; ++i) {
      if (first_row + i >= num_rows_) break;
      const int code = chunk->code[i];
      // Singles of one rank count together.
      peers[i] = device::Peers(code >= kSingle ? code & ~((1 << kExpertBits) - 1) : code).mask;
    }
    int* const mine = numbers() + warp_of_block() * h_.num_replicated;
#pragma unroll
    for (int i = 0; i < kChunk; ++i) {
      if (first_row + i >= num_rows_) break;
      const int code = chunk->code[i];
      const device::Peers row = device::Peers::of_mask(peers[i]);
      chunk->number[i] = device::take_number(row, is_choice(code) ? code : -1, mine);
      if (with_singles && code >= kSingle && row.is_first()) {
        const int home = (code & (kSingle - 1)) >> kExpertBits;
        atomicAdd(&totals()[h_.num_replicated + home], row.count());
      }
    }
  }

  /// What count() held, with this warp's place in the batch.
  __device__ void recall_chunk(int first_row, Chunk* chunk) const {
#pragma unroll
    for (int i = 0; i < kChunk; ++i) {
      chunk->code[i] = first_row + i < num_rows_ ? held(first_row + i) : kNothing;
    }
    const int* const mine = numbers() + warp_of_block() * h_.num_replicated;
#pragma unroll
    for (int i = 0; i < kChunk; ++i) {
      const int kept = chunk->code[i];
      if (!is_choice(kept)) continue;
      chunk->code[i] = kept & ((1 << kExpertBits) - 1);
      chunk->number[i] = (kept >> kExpertBits) + mine[chunk->code[i]];
    }
  }

  /// map::find_physical() of the rows; the first segment, often the right one, of all rows at once.
  __device__ void write_chunk(int first_row, const Chunk& chunk) {
    int at[kChunk];
    PlanSegment segment[kChunk];
#pragma unroll
    for (int i = 0; i < kChunk; ++i) {
      if (is_choice(chunk.code[i])) at[i] = list<std::uint16_t>(h_.replica_begin)[chunk.code[i]];
    }
#pragma unroll
    for (int i = 0; i < kChunk; ++i) {
      if (is_choice(chunk.code[i])) segment[i] = segments()[at[i]];
    }
#pragma unroll
    for (int i = 0; i < kChunk; ++i) {
      if (!is_mine(first_row + i)) continue;
      int physical = kNothing;
      if (chunk.code[i] >= kSingle) {
        physical = chunk.code[i] & ((1 << kExpertBits) - 1);
      } else if (chunk.code[i] >= 0) {
        physical = chunk.number[i] < segment[i].end
                       ? segment[i].physical
                       : map::find_physical(segments() + at[i] + 1, chunk.number[i]);
      }
      write(entry(first_row + i), physical);
    }
  }

  __device__ void write(long long entry, int physical) {
    if (a_.rank_idx != nullptr) {
      const int rank = physical < 0 ? -1 : physical / h_.slots_per_rank;
      device::store_id(a_.rank_idx, a_.id_bytes, entry, rank);
      if (physical >= 0) physical -= rank * h_.slots_per_rank;
    }
    device::store_id(a_.physical_idx, a_.id_bytes, entry, physical);
  }

  __device__ int& held(int row) const {
    return (&at<int>(a_.layout.held))[row * kPlanThreads + thread()];
  }

  const int num_rows_;  // of this warp
  int ids_[kChunk];
  int num_valid_ = 0;
};

}  // namespace lplb
