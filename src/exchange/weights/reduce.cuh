// SPDX-License-Identifier: MIT
#pragma once

#include "exchange/weights/call.cuh"

namespace lplb::exchange {

inline constexpr int kAddThreads = 512;                                 // add gradients
inline constexpr int kReduceThreads = kAddThreads + device::kWarpSize;  // the last warp loads them
/// Pieces of 16 bytes that a thread has of a tile.
inline constexpr int kPieces = kTile / 16 / kAddThreads;
static_assert(kPieces * 16 * kAddThreads == kTile);

struct SharedReduce {
  SharedCall call;
  device::LoadBarrier full[kMaxBuffers];   // its tile has come
  device::LoadBarrier empty[kMaxBuffers];  // all warps have added it
  int copies;
  /// The entries of the plan whose source is this rank, and their main slots; sorted by main slot,
  /// then by entry, that is, by rank.
  std::uint16_t entry[kMaxPlan], main_slot[kMaxPlan];
  std::uint16_t found[kMaxPlan], found_slot[kMaxPlan];  // the same before they are sorted
};

/// Gradients as they lie in memory: how many are in 16 bytes, and how they are added in float32.
struct Float32Gradients {
  static constexpr int kCount = 4;
  __device__ static float read(const uint4& piece, int i) {
    const unsigned words[] = {piece.x, piece.y, piece.z, piece.w};
    return to_float(words[i]);
  }
  __device__ static uint4 write(const float* sum) {
    return {to_bits(sum[0]), to_bits(sum[1]), to_bits(sum[2]), to_bits(sum[3])};
  }
  __device__ static float to_float(unsigned bits) {
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
  }
  __device__ static unsigned to_bits(float value) {
    unsigned bits;
    memcpy(&bits, &value, sizeof(bits));
    return bits;
  }
};

struct BFloat16Gradients {
  static constexpr int kCount = 8;
  __device__ static float read(const uint4& piece, int i) {
    const unsigned words[] = {piece.x, piece.y, piece.z, piece.w};
    const unsigned word = words[i / 2];
    return Float32Gradients::to_float(i % 2 == 0 ? word << 16 : word & 0xFFFF0000u);
  }
  __device__ static uint4 write(const float* sum) {
    return {device::to_bfloat16_pair(sum[0], sum[1]), device::to_bfloat16_pair(sum[2], sum[3]),
            device::to_bfloat16_pair(sum[4], sum[5]), device::to_bfloat16_pair(sum[6], sum[7])};
  }
};

/// The tiles that a block loads: for each piece of a gradient tensor that it has, first the main
/// slot's, then the copies' in order.
class GradientTiles {
 public:
  __device__ GradientTiles(const ReduceArgs& args, const WeightCall& call,
                           const SharedReduce& shared)
      : a_(args), call_(call), shared_(shared), tile_(blockIdx.x) {
    find();
  }
  __device__ bool is_valid() const { return first_ < shared_.copies; }
  __device__ bool is_first() const { return at_ < first_; }
  __device__ bool is_last() const { return at_ == end_ - 1; }
  __device__ void next() {
    if (++at_ < end_) return;
    tile_ += gridDim.x;
    find();
  }
  /// Where the sum goes.
  __device__ unsigned char* to() const {
    return a_.main[tensor_] + shared_.main_slot[first_] * place().bytes + offset();
  }
  __device__ const unsigned char* from() const {
    if (is_first()) return to();
    const int entry = shared_.entry[at_];
    const int slots = a_.layout.dynamic_slots;
    return call_.buffer_of(call_.member_of(entry / slots)) +
           a_.layout.dynamic(place(), a_.layer, entry % slots) + offset();
  }
  __device__ int bytes() const {
    const long long left = place().bytes - offset();
    return left < kTile ? static_cast<int>(left) : kTile;
  }

 private:
  __device__ const TensorPlace& place() const { return a_.layout.gradient[tensor_]; }
  __device__ long long offset() const { return static_cast<long long>(tile_) * kTile; }
  /// Goes on to the tensor that has tile number `tile_`, counted from this tensor's first one.
  __device__ void find() {
    for (; is_valid(); first_ = end_, tensor_ = 0) {
      end_ = first_ + 1;
      while (end_ < shared_.copies && shared_.main_slot[end_] == shared_.main_slot[first_]) {
        ++end_;
      }
      for (; tensor_ < a_.layout.num_gradients; ++tensor_) {
        const auto size = static_cast<unsigned>((place().bytes + kTile - 1) / kTile);
        if (tile_ < size) {
          at_ = first_ - 1;
          return;
        }
        tile_ -= size;
      }
    }
  }

  const ReduceArgs& a_;
  const WeightCall& call_;
  const SharedReduce& shared_;
  int first_ = 0;  // the copies of the current main slot
  int end_ = 0;
  int at_ = 0;  // the current copy; first_ - 1: the main slot
  int tensor_ = 0;
  unsigned tile_;
};

/// Adds the gradients of copies to those of their sources. All threads of all blocks call it; a
/// block has kReduceThreads threads.
class Reduce {
 public:
  __device__ Reduce(const ReduceArgs& args, SharedReduce& shared)
      : a_(args), shared_(shared), call_(args, shared.call) {}

  template <class Type, bool kBulk>
  __device__ void run(unsigned char* buffers) {
    if (threadIdx.x == 0) shared_.copies = 0;
    call_.arrive();
    const bool is_fetched = record()->layer == a_.layer + 1;
    if (is_fetched) find_copies();
    if (kBulk && static_cast<int>(threadIdx.x) < a_.num_buffers) {
      device::open_barrier(&shared_.full[threadIdx.x]);
      device::open_barrier(&shared_.empty[threadIdx.x], kAddThreads / device::kWarpSize);
    }
    const bool all_came = wait_for_copies();
    if (!is_fetched) {
      if (threadIdx.x == 0) call_.note(kVerdictRefused, -1);
    } else if (all_came) {
      if (static_cast<int>(threadIdx.x) < kAddThreads) {
        kBulk ? add_from_ring<Type>(buffers) : add_from_far<Type>();
      } else if (kBulk && threadIdx.x == kAddThreads) {
        fill_ring(buffers);
      }
    } else if (threadIdx.x == 0) {
      call_.lose(1);
    }
    if (call_.end_block()) finish(is_fetched);
  }

 private:
  __device__ PlanRecord* record() const {
    return reinterpret_cast<PlanRecord*>(a_.own + a_.layout.plan(a_.layer));
  }
  __device__ const std::int32_t* plan() const {
    return reinterpret_cast<const std::int32_t*>(record() + 1);
  }

  /// Lists the copies of this rank's main slots, in order.
  __device__ void find_copies() const {
    const int size = a_.layout.plan_size();
    const std::int32_t* const mine = call_.experts_of(a_.rank);
    for (int i = static_cast<int>(threadIdx.x); i < size; i += kReduceThreads) {
      const int expert = plan()[i];
      if (expert == -1 || plan()[size + i] != a_.rank) continue;
      int slot = 0;
      while (slot < a_.layout.main_slots && mine[slot] != expert) ++slot;
      if (slot == a_.layout.main_slots || call_.member_of(i / a_.layout.dynamic_slots) < 0) {
        continue;  // a fetch of this plan cannot have been complete
      }
      const int at = atomicAdd(&shared_.copies, 1);
      shared_.found[at] = static_cast<std::uint16_t>(i);
      shared_.found_slot[at] = static_cast<std::uint16_t>(slot);
    }
    __syncthreads();
    const int count = shared_.copies;
    const auto key = [&](int i) {
      return static_cast<unsigned>(shared_.found_slot[i]) << 16 | shared_.found[i];
    };
    for (int i = static_cast<int>(threadIdx.x); i < count; i += kReduceThreads) {
      int before = 0;
      for (int j = 0; j < count; ++j) before += key(j) < key(i) ? 1 : 0;
      shared_.entry[before] = shared_.found[i];
      shared_.main_slot[before] = shared_.found_slot[i];
    }
  }

  __device__ int holder(int copy) const {
    return call_.member_of(shared_.entry[copy] / a_.layout.dynamic_slots);
  }

  /// Waits for the ranks that hold copies. Returns whether all came. It has a barrier.
  __device__ bool wait_for_copies() const {
    __syncthreads();
    const unsigned long long give_up = call_.give_up();
    std::uint32_t lost = 0;
    for (int i = static_cast<int>(threadIdx.x); i < shared_.copies; i += kReduceThreads) {
      lost |= call_.await(holder(i), give_up);
    }
    return __syncthreads_or(static_cast<int>(lost)) == 0;
  }

  /// Loads the tiles into a ring of buffers. One thread does that.
  __device__ void fill_ring(unsigned char* buffers) const {
    device::order_bulk_copies();
    RingPlace ring(a_.num_buffers);
    int free = a_.num_buffers;  // buffers that no tile has been in
    for (GradientTiles tiles(a_, call_, shared_); tiles.is_valid(); tiles.next(), ring.next()) {
      const int i = ring.index();
      if (free > 0) {
        --free;
      } else {
        device::wait_for_phase(&shared_.empty[i], ring.parity() ^ 1);
      }
      device::load_bulk(buffers + i * kTile, tiles.from(), tiles.bytes(), &shared_.full[i]);
    }
  }

  /// Adds the tiles of the ring. A warp goes on to the next tile when it has added its pieces.
  template <class Type>
  __device__ void add_from_ring(const unsigned char* buffers) const {
    float sum[kPieces][Type::kCount];
    RingPlace ring(a_.num_buffers);
    for (GradientTiles tiles(a_, call_, shared_); tiles.is_valid(); tiles.next(), ring.next()) {
      const int i = ring.index();
      device::wait_for_phase(&shared_.full[i], ring.parity());
      const unsigned char* const buffer = buffers + i * kTile;
      add<Type>(tiles, sum,
                [buffer](int at) { return *reinterpret_cast<const uint4*>(buffer + at); });
      __syncwarp();
      if (device::lane_id() == 0) device::arrive_at(&shared_.empty[i]);
    }
  }

  /// The same by ordinary loads.
  template <class Type>
  __device__ void add_from_far() const {
    float sum[kPieces][Type::kCount];
    for (GradientTiles tiles(a_, call_, shared_); tiles.is_valid(); tiles.next()) {
      const unsigned char* const from = tiles.from();
      add<Type>(tiles, sum, [from](int at) { return device::load_far(from + at); });
    }
  }

  /// Adds this thread's pieces of a tile, which load(offset) returns, to `sum`, and stores that
  /// after the last tile.
  template <class Type, class Load>
  __device__ static void add(const GradientTiles& tiles, float (&sum)[kPieces][Type::kCount],
                             Load load) {
    const int first = 16 * static_cast<int>(threadIdx.x);
    const int bytes = tiles.bytes();
    uint4 piece[kPieces];
#pragma unroll
    for (int p = 0; p < kPieces; ++p) {
      const int at = first + p * 16 * kAddThreads;
      if (at < bytes) piece[p] = load(at);
    }
    if (tiles.is_first()) {  // -0 + x is x, bit for bit
#pragma unroll
      for (int i = 0; i < kPieces * Type::kCount; ++i)
        sum[i / Type::kCount][i % Type::kCount] = -0.f;
    }
#pragma unroll
    for (int p = 0; p < kPieces; ++p) {
#pragma unroll
      for (int k = 0; k < Type::kCount; ++k) sum[p][k] += Type::read(piece[p], k);
    }
    if (!tiles.is_last()) return;
    unsigned char* const to = tiles.to();
#pragma unroll
    for (int p = 0; p < kPieces; ++p) {
      const int at = first + p * 16 * kAddThreads;
      if (at < bytes) *reinterpret_cast<uint4*>(to + at) = Type::write(sum[p]);
    }
  }

  /// Ends the call. The last block calls it.
  __device__ void finish(bool is_fetched) const {
    bool is_lost = !is_fetched || atomicOr(&call_.control().lost, 0u) != 0;
    for (int i = static_cast<int>(threadIdx.x); i < shared_.copies; i += kReduceThreads) {
      if (call_.is_still_here(holder(i))) continue;
      call_.note(kVerdictBehind, holder(i));
      is_lost = true;
    }
    const int size = a_.layout.plan_size();
    for (int i = static_cast<int>(threadIdx.x); is_fetched && i < size; i += kReduceThreads) {
      const int expert = plan()[i];
      call_.add_to_hash(static_cast<std::uint32_t>(i), static_cast<std::uint32_t>(expert),
                        expert == -1 ? 0u : static_cast<std::uint32_t>(plan()[size + i]));
    }
    if (threadIdx.x == 0) call_.add_to_hash(~0u, static_cast<std::uint32_t>(a_.layer), 2);
    const bool is_well = __syncthreads_or(is_lost ? 1 : 0) == 0;
    const std::uint32_t verdict = call_.settle(is_well);
    if (threadIdx.x == 0) call_.leave(verdict);
  }

  const ReduceArgs& a_;
  SharedReduce& shared_;
  const WeightCall call_;
};

}  // namespace lplb::exchange
