// SPDX-License-Identifier: MIT
#pragma once

#include "exchange/weights/call.cuh"

namespace lplb::exchange {

inline constexpr int kFetchThreads = device::kWarpSize * kMaxSlots;  // a warp for each slot

enum SlotState : int { kUnused, kKept, kCopied, kLost };

/// What is to be done about a dynamic slot of this rank.
struct SlotWork {
  const unsigned char* from;  // the source's buffer
  int state, member, source, main_slot;
};

struct SharedFetch {
  SharedCall call;
  SlotWork slot[kMaxSlots];
  unsigned long long version[kMaxSlots];  // of what is copied; set at the end
  device::LoadBarrier barrier[kMaxBuffers];
};

/// The tiles that a block copies: of all tiles of the slots, one after another, every n-th.
class WeightTiles {
 public:
  __device__ WeightTiles(const FetchArgs& args, const SlotWork* slots)
      : a_(args), slots_(slots), tile_(blockIdx.x) {
    find();
  }
  __device__ bool is_valid() const { return slot_ < a_.layout.dynamic_slots; }
  __device__ void next() {
    tile_ += gridDim.x;
    find();
  }
  __device__ const unsigned char* from() const {
    const SlotWork& slot = slots_[slot_];
    return slot.from + WeightsLayout::main(place(), a_.layer, slot.main_slot) + offset();
  }
  __device__ unsigned char* to() const {
    return a_.own + a_.layout.dynamic(place(), a_.layer, slot_) + offset();
  }
  __device__ int bytes() const {
    const long long left = place().bytes - offset();
    return left < kTile ? static_cast<int>(left) : kTile;
  }

 private:
  __device__ const TensorPlace& place() const { return a_.layout.tensor[tensor_]; }
  __device__ long long offset() const { return static_cast<long long>(tile_) * kTile; }

  /// Goes on to the tensor that has tile number `tile_`, counted from this tensor's first one.
  __device__ void find() {
    for (; is_valid(); ++slot_, tensor_ = 0) {
      if (slots_[slot_].state != kCopied) continue;
      for (; tensor_ < a_.layout.num_tensors; ++tensor_) {
        const auto size = static_cast<unsigned>((place().bytes + kTile - 1) / kTile);
        if (tile_ < size) return;
        tile_ -= size;
      }
    }
  }

  const FetchArgs& a_;
  const SlotWork* const slots_;
  int slot_ = 0;
  int tensor_ = 0;
  unsigned tile_;
};

/// Copies the tiles of this block by bulk copies: while some buffers fill, others are written.
/// `buffers` has num_buffers * kTile bytes. One thread does it all.
__device__ inline void copy_by_bulk(const FetchArgs& a, SharedFetch& shared,
                                    unsigned char* buffers) {
  device::order_bulk_copies();
  WeightTiles loaded(a, shared.slot);
  WeightTiles stored(a, shared.slot);
  const auto load = [&](int buffer) {
    device::load_bulk(buffers + buffer * kTile, loaded.from(), loaded.bytes(),
                      &shared.barrier[buffer]);
    loaded.next();
  };
  for (int i = 0; i < a.num_buffers && loaded.is_valid(); ++i) load(i);
  int last = -1;
  for (RingPlace ring(a.num_buffers); stored.is_valid(); stored.next(), ring.next()) {
    device::wait_for_phase(&shared.barrier[ring.index()], ring.parity());
    device::store_bulk(stored.to(), buffers + ring.index() * kTile, stored.bytes());
    // The buffer of the store before this one is free again once that store has read it.
    device::wait_for_older_stores();
    if (last >= 0 && loaded.is_valid()) load(last);
    last = ring.index();
  }
  device::wait_for_stores();
}

/// The same by ordinary loads and stores of all threads.
__device__ inline void copy_by_threads(const FetchArgs& a, const SlotWork* slots) {
  constexpr int kInFlight = 8;
  for (WeightTiles tiles(a, slots); tiles.is_valid(); tiles.next()) {
    const unsigned char* const from = tiles.from();
    unsigned char* const to = tiles.to();
    const int bytes = tiles.bytes();
    const int step = 16 * kFetchThreads;
    for (int first = 16 * static_cast<int>(threadIdx.x); first < bytes; first += kInFlight * step) {
      uint4 v[kInFlight];
#pragma unroll
      for (int i = 0; i < kInFlight; ++i) {
        if (first + i * step < bytes) v[i] = device::load_far(from + first + i * step);
      }
#pragma unroll
      for (int i = 0; i < kInFlight; ++i) {
        if (first + i * step < bytes) *reinterpret_cast<uint4*>(to + first + i * step) = v[i];
      }
    }
  }
}

/// Brings the experts that the plan gives this rank into its dynamic slots. All threads of all
/// blocks call it; a block has kFetchThreads threads.
class Fetch {
 public:
  __device__ Fetch(const FetchArgs& args, SharedFetch& shared)
      : a_(args), shared_(shared), call_(args, shared.call) {}

  template <bool kBulk>
  __device__ void run(unsigned char* buffers) {
    call_.arrive();
    const int slot = static_cast<int>(threadIdx.x) / device::kWarpSize;
    unsigned long long version = 0;
    if (slot < a_.layout.dynamic_slots) version = look_up(slot);
    if (kBulk && static_cast<int>(threadIdx.x) < a_.num_buffers) {
      device::open_barrier(&shared_.barrier[threadIdx.x]);
    }
    __syncthreads();
    if (!kBulk) {
      copy_by_threads(a_, shared_.slot);
    } else if (threadIdx.x == 0) {
      copy_by_bulk(a_, shared_, buffers);
    }
    // NOTE: only now, so that the copies need not wait for the version to come from the source.
    if (device::lane_id() == 0) shared_.version[slot] = version;
    if (call_.end_block()) finish();
  }

 private:
  __device__ HeldCopy& held(int slot) const {
    return *reinterpret_cast<HeldCopy*>(a_.own + a_.layout.held_of(a_.layer, slot));
  }
  __device__ int planned(const std::int32_t* plan, int slot) const {
    return plan[a_.rank * a_.layout.dynamic_slots + slot];
  }

  /// Finds out what a slot needs, and waits for its source. A warp calls it. Returns, to lane 0,
  /// the version of the source's weights.
  __device__ unsigned long long look_up(int slot) const {
    const int expert = planned(a_.slot_expert, slot);
    const int source = planned(a_.slot_source, slot);
    SlotWork work{nullptr, kUnused, -1, source, -1};
    unsigned long long version = 0;
    if (expert != -1) {
      const bool is_rank = source >= 0 && source < a_.layout.num_ranks;
      work.member = is_rank ? call_.member_of(source) : -1;
      work.main_slot = work.member >= 0 ? find(source, expert) : a_.layout.main_slots;
      work.state = work.main_slot < a_.layout.main_slots ? kCopied : kLost;
      if (device::lane_id() == 0) version = wait_for_source(slot, work);
    }
    if (device::lane_id() == 0) shared_.slot[slot] = work;
    return version;
  }

  /// The first main slot of a rank with this expert; main_slots: none.
  __device__ int find(int rank, int expert) const {
    const std::int32_t* const experts = call_.experts_of(rank);
    int first = a_.layout.main_slots;
    for (int i = device::lane_id(); i < a_.layout.main_slots; i += device::kWarpSize) {
      if (experts[i] == expert) first = min(first, i);
    }
    return __reduce_min_sync(~0u, first);
  }

  __device__ unsigned long long wait_for_source(int slot, SlotWork& work) const {
    if (work.state == kLost) {
      call_.note(kVerdictRefused, -1);
    } else if (call_.await(work.member, call_.give_up()) != 0) {
      work.state = kLost;
    }
    if (work.state == kLost) {
      call_.lose(1u << slot);
      return 0;
    }
    work.from = call_.buffer_of(work.member);
    const unsigned long long version =
        device::load_counter(work.from + a_.layout.version(a_.layer, work.main_slot));
    const HeldCopy& now = held(slot);
    const bool may_be_kept =
        now.layer == a_.layer + 1 && now.source == work.source && now.main_slot == work.main_slot;
    if (may_be_kept && now.version == version) work.state = kKept;
    return version;
  }

  /// Ends the call. The last block calls it.
  __device__ void finish() const {
    const int slot = static_cast<int>(threadIdx.x);
    bool is_lost = false;
    if (slot < a_.layout.dynamic_slots) {
      is_lost = !close_slot(slot);
    } else if (slot >= device::kWarpSize) {
      save_plan();
    }
    const bool is_well = __syncthreads_or(is_lost ? 1 : 0) == 0;
    const std::uint32_t verdict = call_.settle(is_well);
    if (threadIdx.x != 0) return;
    reinterpret_cast<PlanRecord*>(a_.own + a_.layout.plan(a_.layer))->layer =
        verdict == 0 ? a_.layer + 1 : 0;
    call_.leave(verdict);
  }

  /// Notes what a slot holds from now on. Returns false if it lacks what the plan says. NOTE: a
  /// slot whose source had left counts as empty: the source may have changed what was read.
  __device__ bool close_slot(int slot) const {
    const SlotWork& work = shared_.slot[slot];
    const bool is_lost =
        work.state == kLost || (atomicOr(&call_.control().lost, 0u) >> slot & 1) != 0;
    const bool is_gone = !is_lost && work.state != kUnused && !call_.is_still_here(work.member);
    if (is_gone) call_.note(kVerdictBehind, work.member);
    const bool is_held = work.state != kUnused && !is_lost && !is_gone;
    if (a_.is_held != nullptr) a_.is_held[slot] = is_held ? 1 : 0;
    if (work.state == kUnused) return true;
    held(slot) = is_held
                     ? HeldCopy{a_.layer + 1, work.source, work.main_slot, 0, shared_.version[slot]}
                     : HeldCopy{};
    if (is_held) count(work.state);
    return is_held;
  }

  __device__ void count(int state) const {
    WeightControl& c = call_.control();
    if (state == kKept) {
      atomicAdd(&c.skipped, 1ull);
      return;
    }
    atomicAdd(&c.copied, 1ull);
    for (int t = 0; t < a_.layout.num_tensors; ++t) {
      atomicAdd(&c.bytes, static_cast<unsigned long long>(a_.layout.tensor[t].bytes));
    }
  }

  /// Keeps the plan for the gradients, and hashes it. All warps but the first call it.
  __device__ void save_plan() const {
    auto* const record = reinterpret_cast<PlanRecord*>(a_.own + a_.layout.plan(a_.layer));
    auto* const experts = reinterpret_cast<std::int32_t*>(record + 1);
    const int size = a_.layout.plan_size();
    const int first = static_cast<int>(threadIdx.x) - device::kWarpSize;
    for (int i = first; i < size; i += kFetchThreads - device::kWarpSize) {
      const int expert = a_.slot_expert[i];
      const int source = a_.slot_source[i];
      experts[i] = expert;
      experts[size + i] = source;
      call_.add_to_hash(static_cast<std::uint32_t>(i), static_cast<std::uint32_t>(expert),
                        expert == -1 ? 0u : static_cast<std::uint32_t>(source));
    }
    if (first == 0) call_.add_to_hash(~0u, static_cast<std::uint32_t>(a_.layer), 1);
  }

  const FetchArgs& a_;
  SharedFetch& shared_;
  const WeightCall call_;
};

}  // namespace lplb::exchange
