// SPDX-License-Identifier: MIT
#pragma once

#include "core/expert_id.h"
#include "core/ptx.cuh"
#include "core/slices.cuh"
#include "map/rules.h"
#include "plan/device/args.h"

namespace lplb::plan {

/// A block's shared memory, by name.
class Memory {
 public:
  __device__ Memory(const Args& args, void* memory)
      : a_(args), m_(static_cast<unsigned char*>(memory)), received_(args.layout.received) {}

  __device__ const Header& header() const { return h_; }
  __device__ Segment* segments() { return &at<Segment>(a_.layout.segments); }
  __device__ int* received(int block) {
    return &at<int>(received_) + block * (a_.layout.max_columns + 1);
  }

 protected:
  static constexpr int kFirstBytes = 2 * 16 * kThreads;  // of the image, header included

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
  __device__ int* heads() const { return &at<int>(a_.layout.heads); }
  __device__ void copy_image(int begin, int end) {
    LPLB_ROLLED
    for (int i = begin + 16 * thread(); i < end; i += 16 * kThreads) {
      device::copy_16(m_ + a_.layout.image + i, a_.image + i);
    }
  }

  const Args& a_;
  unsigned char* const m_;
  int received_;  // where the blocks' totals are
  Header h_;      // once the image is there
};

/// A block's entries of topk_idx. Each warp has a stretch of them, rows of 32 neighbours that it
/// takes a chunk at a time. They pass through the warp's "slots" in shared memory: first an id,
/// then its code. Where a stretch is longer than the slots it is taken in rounds, and read twice.
/// Most experts have one replica that takes all of this rank's tokens. Those of the others wait in
/// a queue, in slots that are free by then, and are numbered 32 at a time. NOTE: the work of each
/// entry counts, instructions and passes through shared memory alike.
class Entries : public Memory {
 public:
  __device__ Entries(const Args& args, void* memory)
      : Memory(args, memory),
        room_(device::kWarpSize *
              (args.id_bytes == 8 ? args.layout.held_slices / 2 : args.layout.held_slices)),
        slots_(device::opaque(args.layout.held + warp_of_block() * room_ * args.id_bytes)),
        first_(static_cast<long long>(blockIdx.x * kWarps + warp_of_block()) * args.stretch),
        length_(static_cast<int>(clamp_to(args.num_entries - first_, args.stretch))) {}

  /// Counts the entries of this block: numbers[warp, k], and totals. The first round is staged, one
  /// group of copies closed since. Ends in a barrier, behind which all that was copied is there.
  __device__ void count() {
    device::wait_for_older_copies();
    LPLB_ROLLED
    for (int from = 0; from < length_; from += room_) {
      if (from > 0) restage(from);
      look_up<true>(from);
    }
    const int mine = my_numbers();
    LPLB_ROLLED
    for (int first = 0; first < h_.num_replicated; first += device::kWarpSize) {
      const int k = first + device::lane_id();
      if (k < h_.num_replicated) atomicAdd(&totals()[k], at<int>(mine + 4 * k));
    }
    device::wait_for_copies();
    __syncthreads();
  }

  /// numbers[warp, k] -> entries of k in earlier warps of this block, and in the earlier blocks,
  /// whose totals are in received(). `worker` of `num_workers` threads.
  __device__ void number_warps(int worker, int num_workers) {
    LPLB_ROLLED
    for (int k = worker; k < h_.num_replicated; k += num_workers) {
      int before = 0;
      LPLB_ROLLED
      for (int block = 0; block < static_cast<int>(blockIdx.x); ++block) {
        before += received(block)[k];
      }
      int* const mine = numbers() + k;
      LPLB_ROLLED
      for (int first = 0; first < kWarps; first += kChunk) {
        int here[kChunk];
#pragma unroll
        for (int i = 0; i < kChunk; ++i) here[i] = mine[(first + i) * h_.num_replicated];
#pragma unroll
        for (int i = 0; i < kChunk; ++i) {
          mine[(first + i) * h_.num_replicated] = before;
          before += here[i];
        }
      }
    }
  }

  /// What map() reads of expert k first: from its segments, and this rank's tokens of it.
  __device__ void make_head(int k, int own) {
    const Segment first = segments()[list<std::uint16_t>(h_.replica_begin)[k]];
    heads()[k] = first.end >= own ? first.physical : kSeveral;
  }
  /// Of all experts, from segments made elsewhere and the blocks' totals. Ends in a barrier.
  __device__ void make_heads(int num_blocks) {
    LPLB_ROLLED
    for (int k = thread(); k < h_.num_replicated; k += kThreads) {
      int own = 0;
      LPLB_ROLLED
      for (int block = 0; block < num_blocks; ++block) own += received(block)[k];
      make_head(k, own);
    }
    __syncthreads();
  }

  /// Writes where each entry of this block goes.
  __device__ void map() {
    LPLB_ROLLED
    for (int from = 0; from < length_; from += room_) {
      if (length_ > room_) {
        restage(from);
        look_up<false>(from);
      }
      int queued = 0;
      int placed = 0;
      LPLB_ROLLED
      for (int at = 0; at < in_round(from); at += kChunkEntries) {
        queued = map_chunk(from, at, queued);
        LPLB_ROLLED
        for (; queued - placed >= device::kWarpSize; placed += device::kWarpSize) {
          place(from, placed, device::kWarpSize);
        }
      }
      if (queued > placed) place(from, placed, queued - placed);
    }
  }

 protected:
  /// Starts to read a round of this warp's entries.
  __device__ void stage(int from) {
    const int bytes = in_round(from) * a_.id_bytes;
    const char* const source =
        static_cast<const char*>(a_.topk_idx) + (first_ + from) * a_.id_bytes;
    char* const target = &at<char>(slots_);
    // NOTE: a row is a multiple of 16 bytes, so that one test does for all.
    const bool is_wide = reinterpret_cast<std::uintptr_t>(a_.topk_idx) % 16 == 0;
    const int wide = is_wide ? bytes & ~15 : 0;
    LPLB_ROLLED
    for (int i = 16 * device::lane_id(); i < wide; i += 16 * device::kWarpSize) {
      device::copy_16(target + i, source + i);
    }
    LPLB_ROLLED
    for (int i = wide + a_.id_bytes * device::lane_id(); i < bytes;
         i += a_.id_bytes * device::kWarpSize) {
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
  static constexpr int kChunkEntries = kChunk * device::kWarpSize;
  static constexpr int kSeveral = -1;  // head of an expert whose tokens several replicas take

  __device__ static long long clamp_to(long long value, int most) {
    return min(max(value, 0ll), static_cast<long long>(most));
  }
  __device__ static int warp_of_block() {
    return static_cast<int>(threadIdx.x / device::kWarpSize);
  }
  __device__ int in_round(int from) const { return min(length_ - from, room_); }
  __device__ int& slot(int e) const { return at<int>(slots_ + e * a_.id_bytes); }
  /// Where those of this warp are.
  __device__ int my_numbers() const {
    return device::opaque(a_.layout.numbers + 4 * warp_of_block() * h_.num_replicated);
  }

  __device__ void restage(int from) {
    __syncwarp();
    stage(from);
    device::wait_for_copies();
  }

  /// What is beyond the valid entries of a round, up to a whole chunk, is dropped.
  __device__ void fill_up(int from) {
    __syncwarp();  // all copies are here
    const int end = device::div_up(in_round(from), kChunkEntries) * kChunkEntries;
    LPLB_ROLLED
    for (int first = min(max(valid_ - from, 0), in_round(from)); first < end;
         first += device::kWarpSize) {
      const int e = first + device::lane_id();
      if (e < end) device::store_id(&at<char>(slots_), a_.id_bytes, e, -1);
    }
    __syncwarp();
  }

  /// Whether a column is that of an expert with several replicas.
  __device__ bool is_choice(int column) const { return column < h_.num_replicated; }

  /// Ids in slots -> codes. `kCount`: adds the entries to numbers[warp, k] or totals.
  template <bool kCount>
  __device__ __forceinline__ void look_up(int from) {
    fill_up(from);
    const int mine = my_numbers();
    const int others = device::opaque(a_.layout.totals);
    const unsigned last = static_cast<unsigned>(h_.num_logical) + 1;
    LPLB_ROLLED
    for (int begin = 0; begin < in_round(from); begin += kChunkEntries) {
      const int at = begin + device::lane_id();
      int id[kChunk];
      if (a_.id_bytes == 8) {
#pragma unroll
        for (int i = 0; i < kChunk; ++i) {
          id[i] = device::narrow_id(
              reinterpret_cast<const std::int64_t&>(slot(at + i * device::kWarpSize)));
        }
      } else {
#pragma unroll
        for (int i = 0; i < kChunk; ++i) id[i] = slot(at + i * device::kWarpSize);
      }
      int code[kChunk];
#pragma unroll
      for (int i = 0; i < kChunk; ++i) {
        code[i] = list<int>(h_.codes)[min(static_cast<unsigned>(id[i]) + 1, last)];
      }
#pragma unroll
      for (int i = 0; i < kChunk; ++i) {
        slot(at + i * device::kWarpSize) = code[i];
        if constexpr (kCount) {
          const int column = code[i] >> kCodeBits;
          atomicAdd(&this->at<int>((is_choice(column) ? mine : others) + 4 * column), 1);
        }
      }
    }
    __syncwarp();
  }

  /// Writes the chunk at `at` of the round, all but the entries that must wait. Returns how many
  /// are queued then. NOTE: not beyond the round: where ids are written in place, those of the next
  /// one have yet to be read.
  __device__ __forceinline__ int map_chunk(int from, int at, int queued) {
    const int lane = device::lane_id();
    int column[kChunk];
    int physical[kChunk];
    unsigned waiting[kChunk];
#pragma unroll
    for (int i = 0; i < kChunk; ++i) {
      const int code = slot(at + lane + i * device::kWarpSize);
      column[i] = code >> kCodeBits;
      physical[i] = (code & kCodeMask) - 1;
      if (is_choice(column[i])) physical[i] = heads()[column[i]];
      waiting[i] = __ballot_sync(~0u, is_choice(column[i]) && physical[i] == kSeveral);
    }
    const long long e = first_ + from + at + lane;
    const int left = in_round(from) - at - lane;
    if (a_.id_bytes == 8) {
      store(static_cast<std::int64_t*>(a_.physical_idx), e, left, physical);
    } else {
      store(static_cast<std::int32_t*>(a_.physical_idx), e, left, physical);
    }
    if ((waiting[0] | waiting[1] | waiting[2] | waiting[3]) == 0) return queued;
    __syncwarp();  // all have read the chunk's slots
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

  /// Writes `count` <= 32 queued entries of the round, from the `first` on.
  __device__ __forceinline__ void place(int from, int first, int count) {
    const int lane = device::lane_id();
    const int item = lane < count ? slot(first + lane) : -1;
    const int k = lane < count ? item & kCodeMask : -1;
    const int number = device::take_number(device::Peers(k), k, &at<int>(my_numbers()));
    if (k < 0) return;
    const int begin = list<std::uint16_t>(h_.replica_begin)[k];
    const int physical = map::find_physical(segments() + begin, number);
    put(first_ + from + (item >> kCodeBits), physical);
  }

  /// Where entry e goes.
  __device__ __forceinline__ void put(long long e, int physical) const {
    if (a_.target_rank != nullptr) {
      physical = split(a_.target_rank, a_.id_bytes, e, physical, h_.slots_per_rank);
    }
    device::store_id(a_.physical_idx, a_.id_bytes, e, physical);
  }

  /// Rows of a chunk, `left` entries from `e` on. What waits is written too, and once more later.
  template <class Id>
  __device__ __forceinline__ void store(Id* to, long long e, int left,
                                        const int (&physical)[kChunk]) const {
    if (a_.target_rank == nullptr && left > (kChunk - 1) * device::kWarpSize) {  // nearly always
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

  /// Stores the rank; returns the slot on it. Rare: not among the code that every batch fetches.
  __device__ __noinline__ static int split(void* target_rank, int id_bytes, long long entry,
                                           int physical, int slots_per_rank) {
    const int rank = physical < 0 ? -1 : physical / slots_per_rank;
    device::store_id(target_rank, id_bytes, entry, rank);
    return physical < 0 ? physical : physical - rank * slots_per_rank;
  }

  const int room_;         // entries that a round has, whole chunks
  const int slots_;        // where those of this warp are
  const long long first_;  // entry of this warp's stretch
  const int length_;       // of the stretch
  int valid_ = 0;          // of these
  int num_valid_ = 0;
};

}  // namespace lplb::plan
