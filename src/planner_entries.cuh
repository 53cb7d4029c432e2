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
    LPLB_ROLLED
    for (int i = begin + 16 * thread(); i < end; i += 16 * kPlanThreads) {
      device::copy_16(m_ + a_.layout.image + i, a_.image + i);
    }
  }

  const PlanArgs& a_;
  unsigned char* const m_;
  PlanHeader h_;  // once the image is there
};

/// A block's entries of topk_idx: each warp has rows of 32, one after the other. Counts them, then
/// tells where each goes. Rows pass through shared memory, "slots" of this thread alone: first an
/// id, then what became of it. Where a warp has more rows than slots it takes them in rounds, and
/// reads them twice.
class PlanEntries : public PlanMemory {
 public:
  __device__ PlanEntries(const PlanArgs& args, void* memory)
      : PlanMemory(args, memory),
        num_rows_(device::rows_per_warp(num_entries(), static_cast<int>(gridDim.x) * kPlanWarps)),
        slots_(args.id_bytes == 8 ? args.layout.held_rows / 2 : args.layout.held_rows) {}

  /// Counts the entries of this block: numbers[warp, k], totals of ranks with single experts. The
  /// first round is staged. Ends in a barrier.
  __device__ void count() {
    int bad = 0;
    LPLB_ROLLED
    for (int first = 0; first < num_rows_; first += slots_) {
      if (first > 0) restage(first);
      LPLB_ROLLED
      for (int row = first; row < end_of_round(first); row += kChunk) bad += take(first, row, true);
    }
    bad = __reduce_add_sync(~0u, bad);
    if (bad != 0 && device::lane_id() == 0) atomicAdd(&totals()[h_.num_columns], bad);
    __syncthreads();
  }

  /// numbers[warp, k] -> entries of k in earlier warps of the block; hands the block's total of
  /// each column (and of bad ids, which come last) to send(column, total).
  template <class Send>
  __device__ void number_warps(Send send) {
    LPLB_ROLLED
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

  /// Writes where each entry of this block goes.
  __device__ void map() {
    LPLB_ROLLED
    for (int first = 0; first < num_rows_; first += slots_) {
      if (num_rows_ > slots_) restage(first);
      LPLB_ROLLED
      for (int row = first; row < end_of_round(first); row += kChunk) {
        if (num_rows_ > slots_) {
          take(first, row, false);
          write(first, row, 0);
        } else {
          write(first, row, 1);
        }
      }
    }
  }

 protected:
  /// Starts to read a round of this warp's rows.
  __device__ void stage(int first) {
    LPLB_ROLLED
    for (int row = first; row < end_of_round(first); ++row) {
      const long long e = entry(row);
      if (e >= num_entries()) break;
      if (a_.id_bytes == 8) {
        device::copy_8(slot(row - first), static_cast<const std::int64_t*>(a_.topk_idx) + e);
      } else {
        device::copy_4(slot(row - first), static_cast<const std::int32_t*>(a_.topk_idx) + e);
      }
    }
  }

  /// What is told of the batch's length, and zeros to count from.
  __device__ void clear() {
    num_valid_ = a_.num_valid_tokens != nullptr ? *a_.num_valid_tokens : a_.num_tokens;
    const int num_numbers = kPlanWarps * a_.layout.max_replicated;
    LPLB_ROLLED
    for (int i = thread(); i < num_numbers; i += kPlanThreads) numbers()[i] = 0;
    LPLB_ROLLED
    for (int i = thread(); i <= a_.layout.max_columns; i += kPlanThreads) totals()[i] = 0;
  }
  __device__ bool is_clamped() const { return num_valid_ < 0 || num_valid_ > a_.num_tokens; }
  __device__ int valid_entries() const {
    return min(max(num_valid_, 0), a_.num_tokens) * a_.num_topk;
  }

 private:
  static constexpr int kChunk = 4;     // rows whose waits overlap
  static constexpr int kNothing = -1;  // code of what goes nowhere

  __device__ int num_entries() const { return a_.num_tokens * a_.num_topk; }
  __device__ static int warp_of_block() { return thread() / device::kRow; }
  __device__ long long entry(int row) const {
    const int warp = static_cast<int>(blockIdx.x) * kPlanWarps + warp_of_block();
    return (static_cast<long long>(warp) * num_rows_ + row) * device::kRow + device::lane_id();
  }
  __device__ int end_of_round(int first) const { return min(num_rows_, first + slots_); }
  __device__ void* slot(int i) const {
    return &at<char>(a_.layout.held) + (i * kPlanThreads + thread()) * a_.id_bytes;
  }
  __device__ int& code_in_slot(int i) const { return *static_cast<int*>(slot(i)); }
  __device__ int id_in_slot(int i) const {
    return a_.id_bytes == 8 ? device::narrow_id(*static_cast<const std::int64_t*>(slot(i)))
                            : *static_cast<const std::int32_t*>(slot(i));
  }

  __device__ void restage(int first) {
    stage(first);
    device::wait_for_copies();
  }

  /// Whether a code is that of an expert with several replicas: k.
  __device__ static bool is_choice(int code) { return code >= 0 && code < kSingle; }

  /// Counts kChunk rows of the round that starts with row `first`. In each slot the id is replaced
  /// by number << kExpertBits | k, the entry's number among those of expert k with several replicas
  /// what numbers[warp, k] counts; else by what PlanHeader::experts says, or kNothing. Returns how
  /// many are bad. NOTE: in three loops, so that what does not depend on the counters need not wait
  /// for them.
  __device__ int take(int first, int first_row, bool with_singles) {
    const int end = end_of_round(first);
    int bad = 0;
    int code[kChunk];
    unsigned peers[kChunk];
#pragma unroll
    for (int i = 0; i < kChunk; ++i) {
      const int row = first_row + i;
      const bool is_valid = row < end && entry(row) < valid_entries();
      const int id = is_valid ? id_in_slot(row - first) : kNothing;
      const bool known = is_expert(id, h_.num_logical);
      bad += !known && id != -1 ? 1 : 0;
      code[i] = known ? list<int>(h_.experts)[id] : kNothing;
    }
#pragma unroll
    for (int i = 0; i < kChunk; ++i) {
      // Singles of one rank count together.
      peers[i] =
          device::Peers(code[i] >= kSingle ? code[i] & ~((1 << kExpertBits) - 1) : code[i]).mask;
    }
    int* const mine = numbers() + warp_of_block() * h_.num_replicated;
#pragma unroll
    for (int i = 0; i < kChunk; ++i) {
      if (first_row + i >= end) break;
      const device::Peers row = device::Peers::of_mask(peers[i]);
      const int number = device::take_number(row, is_choice(code[i]) ? code[i] : -1, mine);
      if (with_singles && code[i] >= kSingle && row.is_first()) {
        const int home = (code[i] & (kSingle - 1)) >> kExpertBits;
        atomicAdd(&totals()[h_.num_replicated + home], row.count());
      }
      code_in_slot(first_row + i - first) =
          is_choice(code[i]) ? number << kExpertBits | code[i] : code[i];
    }
    return bad;
  }

  /// Writes kChunk rows that were taken. `counted`: 1 where the slots' numbers are the warp's own,
  /// to which numbers[warp, k] comes. As map::find_physical(), the first segment, often the right
  /// one, of all rows at once.
  __device__ void write(int first, int first_row, int counted) {
    const int end = end_of_round(first);
    int code[kChunk];
    int number[kChunk];
    int at[kChunk];
    PlanSegment segment[kChunk];
#pragma unroll
    for (int i = 0; i < kChunk; ++i) {
      code[i] = first_row + i < end ? code_in_slot(first_row + i - first) : kNothing;
    }
    const int* const mine = numbers() + warp_of_block() * h_.num_replicated;
#pragma unroll
    for (int i = 0; i < kChunk; ++i) {
      if (!is_choice(code[i])) continue;
      const int k = code[i] & ((1 << kExpertBits) - 1);
      number[i] = (code[i] >> kExpertBits) + counted * mine[k];
      at[i] = list<std::uint16_t>(h_.replica_begin)[k];
    }
#pragma unroll
    for (int i = 0; i < kChunk; ++i) {
      if (is_choice(code[i])) segment[i] = segments()[at[i]];
    }
#pragma unroll
    for (int i = 0; i < kChunk; ++i) {
      const long long e = entry(first_row + i);
      if (first_row + i >= end || e >= num_entries()) break;
      int physical = kNothing;
      if (code[i] >= kSingle) {
        physical = code[i] & ((1 << kExpertBits) - 1);
      } else if (code[i] >= 0) {
        physical = number[i] < segment[i].end
                       ? segment[i].physical
                       : map::find_physical(segments() + at[i] + 1, number[i]);
      }
      store(e, physical);
    }
  }

  __device__ void store(long long entry, int physical) {
    if (a_.rank_idx != nullptr) {
      physical = split(a_.rank_idx, a_.id_bytes, entry, physical, h_.slots_per_rank);
    }
    device::store_id(a_.physical_idx, a_.id_bytes, entry, physical);
  }

  /// Stores the rank; returns the slot on it. Rare: not among the code that every batch fetches.
  __device__ __noinline__ static int split(void* rank_idx, int id_bytes, long long entry,
                                           int physical, int slots_per_rank) {
    const int rank = physical < 0 ? -1 : physical / slots_per_rank;
    device::store_id(rank_idx, id_bytes, entry, rank);
    return physical < 0 ? physical : physical - rank * slots_per_rank;
  }

  const int num_rows_;  // of this warp
  const int slots_;     // that a round has
  int num_valid_ = 0;
};

}  // namespace lplb
