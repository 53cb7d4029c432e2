// SPDX-License-Identifier: MIT
#pragma once

#include "replicate/device/memory.cuh"
#include "solve/device/block.cuh"

namespace lplb::replicas {

/// The tokens of a rank in the plan.
__device__ inline int planned_load(const CopyMemory& m, int g) {
  int sum = 0;
  for (int i = 0; i < m.sizes.main_slots; ++i) sum += m.plan_main[g * m.sizes.main_slots + i];
  for (int i = 0; i < m.sizes.dynamic_slots; ++i) {
    sum += m.plan_dynamic[g * m.sizes.dynamic_slots + i];
  }
  return sum;
}

/// A block of kCopyThreads threads that chooses copies: what both forms of a choice begin and end
/// with. All threads call its functions.
class CopyBlock {
 public:
  /// `memory`: shared memory, CopyLayout::bytes of it.
  __device__ CopyBlock(const CopyArgs& args, unsigned char* memory)
      : args_(args),
        memory_(memory),
        m_(memory, args.sizes, args.layout),
        thread_(threadIdx.x),
        lane_(thread_ % device::kWarpSize),
        warp_(solvers::uniform(thread_ / device::kWarpSize)) {}

  /// Starts to copy the image.
  __device__ void bring_image() const {
    unsigned char* const to = shared_memory(memory_) + args_.layout.offset;
#pragma unroll 1
    for (int i = 16 * thread_; i < args_.layout.image_bytes; i += 16 * kCopyThreads) {
      device::copy_16(to + i, args_.image + i);
    }
  }

 protected:
  template <class Body>
  __device__ void for_each(int count, Body body) const {
#pragma unroll 1
    for (int i = thread_; i < count; i += kCopyThreads) body(i);
  }

  /// Reads the loads, and waits for the image. Returns false if the batch must be refused. Ends in
  /// a barrier.
  __device__ bool read_batch() {
    int high = 0;
    int low = 0;
    bool is_negative = false;
    for_each(m_.sizes.num_logical, [&](int e) {
      const int load = args_.load[e];
      m_.want[e] = load;
      is_negative |= load < 0;
      high += load >> 16;
      low += load & 0xFFFF;
    });
    // NOTE: the sum in two parts, neither of which can overflow.
    high = __reduce_add_sync(~0u, high);
    low = __reduce_add_sync(~0u, low);
    is_negative = __any_sync(~0u, is_negative);
    if (lane_ == 0) {
      m_.scalars->high[warp_] = high;
      m_.scalars->low[warp_] = low;
      m_.scalars->negative[warp_] = is_negative ? 1 : 0;
    }
    device::wait_for_copies();
    __syncthreads();
    const bool counts = lane_ < kCopyThreads / device::kWarpSize;
    high = __reduce_add_sync(~0u, counts ? m_.scalars->high[lane_] : 0);
    low = __reduce_add_sync(~0u, counts ? m_.scalars->low[lane_] : 0);
    is_negative = __any_sync(~0u, counts && m_.scalars->negative[lane_] != 0);
    return !is_negative && (static_cast<long long>(high) << 16) + low <= 0x7FFFFFFF;
  }

  __device__ void refuse() const {
    const ReplicationOutputs& out = args_.out;
    const CopySizes& sizes = m_.sizes;
    for_each(sizes.num_dynamic(), [&](int i) {
      if (out.slot_expert != nullptr) out.slot_expert[i] = -1;
      if (out.slot_source != nullptr) out.slot_source[i] = -1;
    });
    for_each(sizes.num_main() + sizes.num_dynamic(), [&](int i) {
      if (out.physical_load != nullptr) out.physical_load[i] = 0;
    });
    for_each(sizes.num_ranks, [&](int g) {
      if (out.rank_load != nullptr) out.rank_load[g] = 0;
      if (out.in_proof != nullptr) out.in_proof[g] = 0;
    });
    if (thread_ == 0 && out.summary != nullptr) {
      *out.summary = {ReplicationStatus::kRefused, 0, 0, 0, 0, 0, 0, -1, -1, -1};
    }
  }

  /// Without replicated experts, each slot has all tokens of its expert. Ends in a barrier.
  __device__ void give_to_homes(const CopyMemory& m) const {
    for_each(m.sizes.num_main(), [&](int slot) {
      const int e = m.slot_expert[slot];
      m.slot_tokens[slot] = e == kNoExpert ? 0 : m.want[e];
    });
    __syncthreads();
  }

  /// Finds the load and the heaviest slot of each rank: one thread for a rank with few slots,
  /// otherwise a warp. Ends in a barrier.
  __device__ void measure_ranks(const CopyMemory& m) const {
    const int slots = m.sizes.main_slots;
    if (slots <= kFewSlots) {
      for_each(m.sizes.num_ranks, [&](int g) {
        int sum = 0;
        int most = -1;
        int at = 0;
#pragma unroll 4
        for (int slot = g * slots; slot < (g + 1) * slots; ++slot) {
          const int tokens = m.slot_tokens[slot];
          sum += tokens;
          at = tokens > most ? slot : at;
          most = max(most, tokens);
        }
        note_rank(m, g, sum, most, at);
      });
      __syncthreads();
      return;
    }
#pragma unroll 1
    for (int g = warp_; g < m.sizes.num_ranks; g += kMostAttempts) {
      int sum = 0;
      int most = -1;
      int at = 0x7FFFFFFF;
#pragma unroll 1
      for (int slot = g * slots + lane_; slot < (g + 1) * slots; slot += device::kWarpSize) {
        const int tokens = m.slot_tokens[slot];
        sum += tokens;
        at = tokens > most ? slot : at;
        most = max(most, tokens);
      }
      sum = __reduce_add_sync(~0u, sum);
      const int heaviest = __reduce_max_sync(~0u, most);
      at = __reduce_min_sync(~0u, most == heaviest ? at : 0x7FFFFFFF);
      if (lane_ == 0) note_rank(m, g, sum, heaviest, at);
    }
    __syncthreads();
  }

  __device__ static void note_rank(const CopyMemory& m, int g, int load, int heaviest, int slot) {
    m.rank_load[g] = load;
    m.heaviest[g] = heaviest;
    m.heaviest_slot[g] = slot;
  }

  /// Writes the results. Of the summary it adds what is sent and received. proves(g): whether rank
  /// g is in the proof.
  template <class Proves>
  __device__ void write(const ReplicationSummary& summary, Proves proves) const {
    const ReplicationOutputs& out = args_.out;
    const CopySizes& sizes = m_.sizes;
    for_each(sizes.num_dynamic(), [&](int i) {
      const int e = m_.dynamic_expert[i];
      if (out.slot_expert != nullptr) out.slot_expert[i] = e;
      if (out.slot_source != nullptr) out.slot_source[i] = e < 0 ? -1 : m_.source[i];
    });
    const int slots = sizes.main_slots + sizes.dynamic_slots;
    for_each(out.physical_load != nullptr ? sizes.num_ranks * slots : 0, [&](int p) {
      const int g = p / slots;
      const int i = p - g * slots;
      out.physical_load[p] = i < sizes.main_slots
                                 ? m_.plan_main[g * sizes.main_slots + i]
                                 : m_.plan_dynamic[g * sizes.dynamic_slots + i - sizes.main_slots];
    });
    if (out.rank_load != nullptr || out.in_proof != nullptr) {
      for_each(sizes.num_ranks, [&](int g) {
        if (out.rank_load != nullptr) out.rank_load[g] = planned_load(m_, g);
        if (out.in_proof != nullptr) out.in_proof[g] = proves(g) ? 1 : 0;
      });
    }
    if (warp_ == 0 && out.summary != nullptr) summarize(summary);
  }

  __device__ void summarize(ReplicationSummary summary) const {
    int sent = 0;
    int received = 0;
#pragma unroll 1
    for (int g = lane_; g < m_.sizes.num_ranks; g += device::kWarpSize) {
      sent = max(sent, m_.sent[g]);
      received = max(received, m_.received(g));
    }
    summary.max_sent = __reduce_max_sync(~0u, sent);
    summary.max_received = __reduce_max_sync(~0u, received);
    if (lane_ == 0) *args_.out.summary = summary;
  }

  const CopyArgs& args_;
  unsigned char* const memory_;
  CopyMemory m_;
  const int thread_;
  const int lane_;
  const int warp_;  // NOTE: known to be uniform, so that no vote of a warp is preceded by a check
};

}  // namespace lplb::replicas
