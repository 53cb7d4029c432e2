// SPDX-License-Identifier: MIT
#pragma once

#include "core/expert_id.h"
#include "core/slices.cuh"
#include "plan/device/shared.cuh"

namespace lplb::plan {

/// Stores the rank of an entry; returns the slot on it. Rare, so it is a call, which keeps it out
/// of the code that every batch fetches.
__device__ __noinline__ inline int store_rank(void* target_rank, int id_bytes, long long entry,
                                              int physical, int slots_per_rank) {
  const int rank = physical < 0 ? -1 : physical / slots_per_rank;
  device::store_id(target_rank, id_bytes, entry, rank);
  return physical < 0 ? physical : physical - rank * slots_per_rank;
}

/// A block's entries of topk_idx: reads, counts, numbers and maps them.
///
/// Each warp has a stretch of the entries. It works on a chunk at a time: 4 slices of 32
/// neighbouring entries. The entries pass through the warp's entry slots in shared memory, which
/// hold first an id, then its code. If a stretch is longer than the entry slots, the warp takes it
/// in several passes, and reads it twice: in count() and in map().
///
/// For most experts one replica takes all of this rank's tokens. The entries of the other experts
/// wait in a queue, in entry slots that are free by then, and are numbered 32 at a time. NOTE: each
/// instruction and each access to shared memory that an entry takes shows in the kernel's time.
class Entries {
 public:
  __device__ explicit Entries(Shared& shared)
      : s_(shared),
        room_(device::kWarpSize * (shared.a.id_bytes == 8 ? shared.a.layout.held_slices / 2
                                                          : shared.a.layout.held_slices)),
        slots_(device::opaque(shared.a.layout.held + warp() * room_ * shared.a.id_bytes)),
        first_(static_cast<long long>(block_id() * kWarps + warp()) * shared.a.stretch),
        length_(static_cast<int>(clamp_to(shared.a.num_entries - first_, shared.a.stretch))) {}

  /// Counts the entries of this block, into numbers[warp, k] and totals. Needs the first pass to be
  /// staged, and one more group of copies closed since. Ends in a barrier; after it, all copies are
  /// in shared memory.
  __device__ void count() {
    device::wait_for_older_copies();
    LPLB_ROLLED
    for (int from = 0; from < length_; from += room_) {
      if (from > 0) restage(from);
      look_up<true>(from);
    }
    // Add the warp's counters to the block's totals.
    const int mine = my_numbers();
    LPLB_ROLLED
    for (int first = 0; first < s_.h.num_replicated; first += device::kWarpSize) {
      const int k = first + device::lane_id();
      if (k < s_.h.num_replicated) atomicAdd(&s_.totals()[k], s_.at<int>(mine + 4 * k));
    }
    device::wait_for_copies();
    __syncthreads();
  }

  /// Replaces numbers[warp, k] by the number of the warp's first entry of expert k: how many
  /// entries of k the earlier blocks and the earlier warps of this block have. Needs the earlier
  /// blocks' totals in received(). Called by thread `worker` of `num_workers`.
  __device__ void number_warps(int worker, int num_workers) {
    LPLB_ROLLED
    for (int k = worker; k < s_.h.num_replicated; k += num_workers) {
      int before = 0;
      LPLB_ROLLED
      for (int block = 0; block < block_id(); ++block) {
        before += s_.received(block)[k];
      }
      int* const mine = s_.numbers() + k;
      LPLB_ROLLED
      for (int first = 0; first < kWarps; first += kChunk) {
        int here[kChunk];
#pragma unroll
        for (int i = 0; i < kChunk; ++i) here[i] = mine[(first + i) * s_.h.num_replicated];
#pragma unroll
        for (int i = 0; i < kChunk; ++i) {
          mine[(first + i) * s_.h.num_replicated] = before;
          before += here[i];
        }
      }
    }
  }

  /// Sets the head of expert k from its segments; `own`: this rank's tokens of k.
  __device__ void make_head(int k, int own) {
    const Segment first = s_.segments()[s_.list<std::uint16_t>(s_.h.replica_begin)[k]];
    s_.heads()[k] = first.end >= own ? first.physical : kSeveral;
  }
  /// Sets the heads of all replicated experts, from segments that another kernel made and the
  /// totals of all blocks. Ends in a barrier.
  __device__ void make_heads(int num_blocks) {
    LPLB_ROLLED
    for (int k = thread(); k < s_.h.num_replicated; k += kThreads) {
      int own = 0;
      LPLB_ROLLED
      for (int block = 0; block < num_blocks; ++block) own += s_.received(block)[k];
      make_head(k, own);
    }
    __syncthreads();
  }

  /// Writes the physical id of each entry of this block.
  __device__ void map() {
    LPLB_ROLLED
    for (int from = 0; from < length_; from += room_) {
      // If there are several passes, the entry slots hold the codes of the last one.
      if (length_ > room_) {
        restage(from);
        look_up<false>(from);
      }
      int queued = 0;
      int placed = 0;
      LPLB_ROLLED
      for (int at = 0; at < in_pass(from); at += kChunkEntries) {
        queued = map_chunk(from, at, queued);
        // Number 32 queued entries at a time.
        LPLB_ROLLED
        for (; queued - placed >= device::kWarpSize; placed += device::kWarpSize) {
          place_queued(from, placed, device::kWarpSize);
        }
      }
      if (queued > placed) place_queued(from, placed, queued - placed);
    }
  }

  /// Starts to copy this warp's entries [from, from + in_pass(from)) into its entry slots.
  __device__ void stage(int from) {
    const int bytes = in_pass(from) * s_.a.id_bytes;
    const char* const source =
        static_cast<const char*>(s_.a.topk_idx) + (first_ + from) * s_.a.id_bytes;
    char* const target = &s_.at<char>(slots_);
    // NOTE: a slice is a multiple of 16 bytes, so the alignment of topk_idx is that of every
    // stretch.
    const bool is_wide = reinterpret_cast<std::uintptr_t>(s_.a.topk_idx) % 16 == 0;
    const int wide = is_wide ? bytes & ~15 : 0;
    LPLB_ROLLED
    for (int i = 16 * device::lane_id(); i < wide; i += 16 * device::kWarpSize) {
      device::copy_16(target + i, source + i);
    }
    LPLB_ROLLED
    for (int i = wide + s_.a.id_bytes * device::lane_id(); i < bytes;
         i += s_.a.id_bytes * device::kWarpSize) {
      if (s_.a.id_bytes == 8) {
        device::copy_8(target + i, source + i);
      } else {
        device::copy_4(target + i, source + i);
      }
    }
  }

  /// Reads how many tokens are real. `valid_`: how many of this warp's entries belong to them.
  __device__ void read_valid() {
    num_valid_ = s_.a.num_valid_tokens != nullptr ? *s_.a.num_valid_tokens : s_.a.num_tokens;
    valid_ = static_cast<int>(clamp_to(valid_entries() - first_, length_));
  }
  __device__ bool is_clamped() const { return num_valid_ < 0 || num_valid_ > s_.a.num_tokens; }
  __device__ int valid_entries() const {
    return min(max(num_valid_, 0), s_.a.num_tokens) * s_.a.num_topk;
  }

 private:
  static constexpr int kChunkEntries = kChunk * device::kWarpSize;
  static constexpr int kSeveral = -1;  // head of an expert whose tokens several replicas share

  __device__ static long long clamp_to(long long value, int most) {
    return min(max(value, 0ll), static_cast<long long>(most));
  }
  /// Entries of the pass that begins at entry `from` of the stretch.
  __device__ int in_pass(int from) const { return min(length_ - from, room_); }
  /// The entry slot of entry `e` of the pass.
  __device__ int& slot(int e) const { return s_.at<int>(slots_ + e * s_.a.id_bytes); }
  /// Offset of this warp's numbers.
  __device__ int my_numbers() const {
    return device::opaque(s_.a.layout.numbers + 4 * warp() * s_.h.num_replicated);
  }

  /// Copies the entries of another pass, and waits for them.
  __device__ void restage(int from) {
    __syncwarp();
    stage(from);
    device::wait_for_copies();
  }

  /// Sets the entry slots after the valid entries of a pass to -1 (dropped), up to a whole chunk.
  __device__ void fill_up(int from) {
    __syncwarp();  // all copies are here
    const int end = device::div_up(in_pass(from), kChunkEntries) * kChunkEntries;
    LPLB_ROLLED
    for (int first = min(max(valid_ - from, 0), in_pass(from)); first < end;
         first += device::kWarpSize) {
      const int e = first + device::lane_id();
      if (e < end) device::store_id(&s_.at<char>(slots_), s_.a.id_bytes, e, -1);
    }
    __syncwarp();
  }

  /// Whether a column belongs to an expert with several replicas.
  __device__ bool is_choice(int column) const { return column < s_.h.num_replicated; }

  /// Replaces the ids in the entry slots by their codes. `kCount`: also adds the entries to
  /// numbers[warp, k] or totals.
  template <bool kCount>
  __device__ __forceinline__ void look_up(int from) {
    fill_up(from);
    const int mine = my_numbers();
    const int others = device::opaque(s_.a.layout.totals);
    const unsigned last = static_cast<unsigned>(s_.h.num_logical) + 1;
    LPLB_ROLLED
    for (int begin = 0; begin < in_pass(from); begin += kChunkEntries) {
      const int at = begin + device::lane_id();
      // Read the chunk's ids.
      int id[kChunk];
      if (s_.a.id_bytes == 8) {
#pragma unroll
        for (int i = 0; i < kChunk; ++i) {
          id[i] = device::narrow_id(
              reinterpret_cast<const std::int64_t&>(slot(at + i * device::kWarpSize)));
        }
      } else {
#pragma unroll
        for (int i = 0; i < kChunk; ++i) id[i] = slot(at + i * device::kWarpSize);
      }
      // Look up their codes: the first one is that of id -1, the last one that of all bad ids.
      int code[kChunk];
#pragma unroll
      for (int i = 0; i < kChunk; ++i) {
        code[i] = s_.list<int>(s_.h.codes)[min(static_cast<unsigned>(id[i]) + 1, last)];
      }
      // Keep the codes, and count.
#pragma unroll
      for (int i = 0; i < kChunk; ++i) {
        slot(at + i * device::kWarpSize) = code[i];
        if constexpr (kCount) {
          const int column = code[i] >> kCodeBits;
          atomicAdd(&s_.at<int>((is_choice(column) ? mine : others) + 4 * column), 1);
        }
      }
    }
    __syncwarp();
  }

  /// Writes the physical ids of the chunk at `at` of the pass, and queues the entries that must
  /// wait for a number. Returns how many are queued then. NOTE: it must not write beyond the pass.
  /// If physical_idx is the same memory as topk_idx, the ids of the next pass have yet to be read.
  __device__ __forceinline__ int map_chunk(int from, int at, int queued) {
    const int lane = device::lane_id();
    // Find the physical id of each entry: from its code, or the head of its expert.
    int column[kChunk];
    int physical[kChunk];
    unsigned waiting[kChunk];
#pragma unroll
    for (int i = 0; i < kChunk; ++i) {
      const int code = slot(at + lane + i * device::kWarpSize);
      column[i] = code >> kCodeBits;
      physical[i] = (code & kCodeMask) - 1;
      if (is_choice(column[i])) physical[i] = s_.heads()[column[i]];
      waiting[i] = __ballot_sync(~0u, is_choice(column[i]) && physical[i] == kSeveral);
    }
    // Write all of them. What waits is written again by place().
    const long long e = first_ + from + at + lane;
    const int left = in_pass(from) - at - lane;
    if (s_.a.id_bytes == 8) {
      store(static_cast<std::int64_t*>(s_.a.physical_idx), e, left, physical);
    } else {
      store(static_cast<std::int32_t*>(s_.a.physical_idx), e, left, physical);
    }
    if ((waiting[0] | waiting[1] | waiting[2] | waiting[3]) == 0) return queued;
    __syncwarp();  // all lanes have read the chunk's entry slots
                   // Append what waits to the queue, in the order of the entries.
#pragma unroll
    for (int i = 0; i < kChunk; ++i) {
      if ((waiting[i] >> lane & 1) != 0) {
        slot(queued + __popc(waiting[i] & ((1u << lane) - 1))) =
            (at + lane + i * device::kWarpSize) << kCodeBits | column[i];
      }
      queued += __popc(waiting[i]);
    }
    __syncwarp();
    return queued;
  }
  static_assert(kChunk == 4);

  /// Numbers `count` <= 32 queued entries of the pass, from the `first` one on, and writes their
  /// physical ids. An item of the queue is {entry of the pass, expert}.
  __device__ __forceinline__ void place_queued(int from, int first, int count) {
    const int lane = device::lane_id();
    const int item = lane < count ? slot(first + lane) : -1;
    const int k = lane < count ? item & kCodeMask : -1;
    const int number = device::take_number(device::Peers(k), k, &s_.at<int>(my_numbers()));
    if (k < 0) return;
    const int begin = s_.list<std::uint16_t>(s_.h.replica_begin)[k];
    const int physical = map::find_physical(s_.segments() + begin, number);
    put(first_ + from + (item >> kCodeBits), physical);
  }

  /// Writes the physical id of entry e, or its rank and the slot on it.
  __device__ __forceinline__ void put(long long e, int physical) const {
    if (s_.a.target_rank != nullptr) {
      physical = store_rank(s_.a.target_rank, s_.a.id_bytes, e, physical, s_.h.slots_per_rank);
    }
    device::store_id(s_.a.physical_idx, s_.a.id_bytes, e, physical);
  }

  /// Writes this lane's entry of each slice of a chunk: e, e + 32, e + 64, e + 96. `left`: how many
  /// entries the pass has from e on.
  template <class Id>
  __device__ __forceinline__ void store(Id* to, long long e, int left,
                                        const int (&physical)[kChunk]) const {
    if (s_.a.target_rank == nullptr &&
        left > (kChunk - 1) * device::kWarpSize) {  // nearly every chunk
      to += e;
#pragma unroll
      for (int i = 0; i < kChunk; ++i) to[i * device::kWarpSize] = physical[i];
      return;
    }
#pragma unroll
    for (int i = 0; i < kChunk; ++i) {
      if (i * device::kWarpSize < left) put(e + i * device::kWarpSize, physical[i]);
    }
  }

  Shared& s_;
  const int room_;         // entries of a full pass, whole chunks
  const int slots_;        // offset of this warp's entry slots
  const long long first_;  // the first entry of this warp's stretch
  const int length_;       // entries of the stretch
  int valid_ = 0;          // how many of these are real, not padding
  int num_valid_ = 0;      // tokens that are real, as given
};

}  // namespace lplb::plan
