// SPDX-License-Identifier: MIT
#pragma once

#include "core/bulk.cuh"
#include "core/slices.cuh"
#include "exchange/weights/layout.h"

namespace lplb::exchange {

/// What the threads of a block share in a call.
struct SharedCall {
  std::uint32_t hash;
  int is_last;
  int is_lost;  // the last block knows that the call is not complete
};

/// One collective call of the ranks, by the blocks of a kernel. Every rank arrives; then it reads
/// its peers' memory; then it tells that it is done, and waits until all are. So a peer's weights
/// and gradients are read only between its word kArrived and the end of its kernel. After a
/// time-out a rank may leave while another still reads; it tells kLeft first. So the reader looks
/// afterwards, by is_still_here(), whether the peer had left, and if so, uses nothing of what it
/// read.
///
/// All threads of each block call arrive(), await(), (reading), end_block(); and if that returns
/// true, the rest, on the block that was the last one to come there.
class WeightCall {
 public:
  __device__ WeightCall(const WeightArgs& args, SharedCall& shared)
      : a_(args), shared_(shared), epoch_(next_epoch(control().epoch)) {}

  __device__ WeightControl& control() const {
    return *reinterpret_cast<WeightControl*>(a_.own + a_.layout.control);
  }
  __device__ unsigned char* buffer_of(int member) const {
    const auto* const table = reinterpret_cast<const unsigned long long*>(a_.own);
    return reinterpret_cast<unsigned char*>(table[member]);
  }
  /// The member that a rank of the placement is; -1: none.
  __device__ int member_of(int rank) const {
    return reinterpret_cast<const std::int32_t*>(a_.own + a_.layout.member_of)[rank];
  }
  /// The logical experts in the main slots of a rank.
  __device__ const std::int32_t* experts_of(int rank) const {
    return reinterpret_cast<const std::int32_t*>(a_.own + a_.layout.placement(a_.layer)) +
           rank * a_.layout.main_slots;
  }

  /// Prepares the shared state, and tells all peers that this rank has come.
  __device__ void arrive() const {
    if (threadIdx.x == 0) shared_ = {};
    if (blockIdx.x == 0) tell(kArrived);
    __syncthreads();
  }

  /// Waits for a peer. Returns 0 or why it may not be read, and notes that.
  __device__ std::uint32_t await(int member, unsigned long long give_up) const {
    if (member == a_.member) return 0;
    std::uint32_t data;
    const std::uint32_t why = poll(member, kArrived, give_up, &data);
    return note(why == 0 && (data & kLeft) != 0 ? kVerdictBehind : why, member);
  }
  /// When a wait for the peers ends that begins now.
  __device__ unsigned long long give_up() const { return device::now_ns() + a_.deadline_ns; }

  /// Notes why this call is not complete.
  __device__ std::uint32_t note(std::uint32_t why, int member) const {
    if (why != 0) {
      atomicOr(&control().verdict, why);
      if (member >= 0) atomicMax(&control().missing, member + 1);
    }
    return why;
  }
  /// Says that the call has not brought this block what `bits` stand for.
  __device__ void lose(std::uint32_t bits) const { atomicOr(&control().lost, bits); }

  /// Ends the reading of a block. Returns whether it is the last block of the rank.
  __device__ bool end_block() const {
    __syncthreads();
    if (threadIdx.x == 0) {
      shared_.is_last = device::count_up(&control().blocks_done) == gridDim.x - 1 ? 1 : 0;
    }
    __syncthreads();
    return shared_.is_last != 0;
  }

  /// Whether a peer that this rank has waited for had not left the call when it was last read.
  /// NOTE: this rank's memory is enough. If it has read what a peer wrote after it had left, it
  /// sees the peer's earlier word, too.
  __device__ bool is_still_here(int member) const {
    if (member == a_.member) return true;
    const unsigned long long bits = device::load_signal(a_.own + a_.layout.word(epoch_, member));
    return static_cast<std::uint32_t>(bits >> 32) == epoch_ && (bits & kLeft) == 0;
  }

  /// Adds to the hash of the plan. All threads of the last block call it with their entries.
  __device__ void add_to_hash(std::uint32_t at, std::uint32_t expert, std::uint32_t source) const {
    unsigned long long z =
        (static_cast<unsigned long long>(expert) << 32 | source) + 0x9E3779B97F4A7C15ull * (at + 1);
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ z >> 27) * 0x94D049BB133111EBull;
    atomicAdd(&shared_.hash, static_cast<std::uint32_t>(z >> 32));
  }

  /// Tells the peers how it went here. If it went well, waits for them to tell the same: for two
  /// deadlines, because a peer may wait for one before it reads. Returns the verdict of the rank to
  /// thread 0: 0 if all ranks have what they need. All threads of the last block call it, after a
  /// barrier.
  __device__ std::uint32_t settle(bool is_well) const {
    const std::uint32_t hash = shared_.hash << kHashShift;
    tell(hash | (is_well ? static_cast<std::uint32_t>(kDone) : kLacking | kLeft));
    const unsigned long long until = give_up() + a_.deadline_ns;
    for (int m = static_cast<int>(threadIdx.x); is_well && m < a_.layout.num_members;
         m += static_cast<int>(blockDim.x)) {
      if (m == a_.member) continue;
      std::uint32_t data = 0;
      std::uint32_t why = poll(m, kDone, until, &data);
      if (why == kKnown) break;
      if (why == 0 && data >> kHashShift != hash >> kHashShift) why = kVerdictMismatched;
      if (why == 0 && (data & kStates) == kLacking) why = kVerdictFailed;
      if (note(why, m) != 0) device::raise_flag(&shared_.is_lost);
    }
    __syncthreads();
    const bool is_lost = !is_well || device::is_raised(&shared_.is_lost);
    if (is_well && is_lost) tell(hash | kDone | kLeft);
    // NOTE: until the peers can see kLeft, nothing that follows in the stream may change what they
    // read.
    if (is_lost) device::fence_system();
    // NOTE: only thread 0 reads it, because leave() clears it while others may still be here.
    return threadIdx.x == 0 ? atomicOr(&control().verdict, 0u) : 0;
  }

  /// Leaves the call. Thread 0 calls it, after all else.
  __device__ void leave(std::uint32_t verdict) const {
    WeightControl& c = control();
    if (a_.outcome != nullptr) *a_.outcome = static_cast<std::int32_t>(verdict);
    ++c.calls;
    if (verdict != 0) c.last_missing = c.missing - 1;
    // A call counts under one reason only.
    if ((verdict & kVerdictRefused) != 0) {
      ++c.refused;
    } else if ((verdict & kVerdictMismatched) != 0) {
      ++c.mismatched;
    } else if ((verdict & kVerdictTimedOut) != 0) {
      ++c.timed_out;
    } else if ((verdict & kVerdictBehind) != 0) {
      ++c.behind;
    } else if (verdict != 0) {
      ++c.failed;
    }
    c.epoch = epoch_;
    c.blocks_done = 0;
    c.lost = c.verdict = 0;
    c.missing = 0;
  }

 private:
  /// What poll() returns if another thread knows already that the call is lost.
  static constexpr std::uint32_t kKnown = ~0u;

  __device__ void tell(std::uint32_t data) const {
    for (int m = static_cast<int>(threadIdx.x); m < a_.layout.num_members;
         m += static_cast<int>(blockDim.x)) {
      if (m == a_.member) continue;
      device::store_signal(buffer_of(m) + a_.layout.word(epoch_, a_.member),
                           static_cast<unsigned long long>(epoch_) << 32 | data);
    }
  }

  /// Waits until a peer says at least `state` in this call. Returns 0 or why it has not.
  __device__ std::uint32_t poll(int member, WeightState state, unsigned long long until,
                                std::uint32_t* data) const {
    const void* const word = a_.own + a_.layout.word(epoch_, member);
    while (true) {
      const unsigned long long bits = device::load_signal(word);
      const auto epoch = static_cast<std::uint32_t>(bits >> 32);
      *data = static_cast<std::uint32_t>(bits);
      if (epoch == epoch_ && (*data & kStates) >= state) return 0;
      if (is_later(epoch, epoch_)) return kVerdictBehind;
      if (device::is_raised(&shared_.is_lost)) return kKnown;
      if (device::now_ns() > until) return kVerdictTimedOut;
    }
  }

  const WeightArgs& a_;
  SharedCall& shared_;
  const std::uint32_t epoch_;
};

/// A ring of buffers in shared memory: which one comes next, and the parity of its load.
class RingPlace {
 public:
  __device__ explicit RingPlace(int size) : size_(size) {}
  __device__ int index() const { return index_; }
  __device__ unsigned parity() const { return parity_; }
  __device__ void next() {
    if (++index_ == size_) {
      index_ = 0;
      parity_ ^= 1;
    }
  }

 private:
  const int size_;
  int index_ = 0;
  unsigned parity_ = 0;
};

}  // namespace lplb::exchange
