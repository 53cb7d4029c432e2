// SPDX-License-Identifier: MIT
#pragma once

#include "replicate/device/cheapest.cuh"

namespace lplb::replicas {

/// Replicator::run() for one block of kCopyThreads threads, with the same integers. Most batches
/// take the steps of this file only: the first attempt, by one warp, reaches the bound. search.cuh
/// has what follows otherwise. All threads call its functions.
template <int kWords>
class CopyChoice {
 public:
  /// `memory`: shared memory, CopyLayout::bytes of it.
  __device__ CopyChoice(const CopyArgs& args, unsigned char* memory)
      : args_(args),
        memory_(memory),
        m_(memory, args.sizes, args.layout),
        thread_(threadIdx.x),
        lane_(thread_ % device::kWarpSize),
        warp_(solvers::uniform(thread_ / device::kWarpSize)) {}

  /// A batch by itself: reads it, plans it and writes the results.
  __device__ void run() {
    bring_image();
    if (!read_batch()) {
      refuse();
      return;
    }
    write(plan([](int, int) {}));
  }

  /// Starts to copy the image.
  __device__ void bring_image() const {
    unsigned char* const to = shared_memory(memory_) + args_.layout.offset;
#pragma unroll 1
    for (int i = 16 * thread_; i < args_.layout.image_bytes; i += 16 * kCopyThreads) {
      device::copy_16(to + i, args_.image + i);
    }
  }

  __device__ const CopyMemory& memory() const { return m_; }

  /// Plans what is in `want`, whose sum is at most 2^31 - 1; the arrays hold what the plan takes.
  /// Needs the image and `want`, and a barrier after them. While one warp makes the first attempt,
  /// the others call in_parallel(worker, num_workers). Ends in a barrier.
  template <class Work>
  __device__ CopyPlan plan(Work in_parallel) {
    m_.open();
    if (m_.replicated) {
      split_main_slots<kWords>(args_, memory_);
    } else {
      give_to_homes();
    }
    m_.clear_plan(thread_, kCopyThreads);
    for_each(m_.sizes.num_ranks, [&](int g) { m_.sent[g] = 0; });
    measure_ranks();
    const CopyPlan plan = choose(in_parallel);
    if (m_.replicated) {
      choose_sources<kWords>(args_, memory_);
    } else {
      send_from_homes(m_);
    }
    return args_.num_candidates > 0 ? plan_cheapest<kWords>(args_, memory_, total_, plan) : plan;
  }

 private:
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
      *out.summary = {ReplicationStatus::kRefused, 0, 0, 0, 0, 0, 0};
    }
  }

  /// Without replicated experts, each slot has all tokens of its expert. Ends in a barrier.
  __device__ void give_to_homes() {
    for_each(m_.sizes.num_main(), [&](int slot) {
      const int e = m_.slot_expert[slot];
      m_.slot_tokens[slot] = e == kNoExpert ? 0 : m_.want[e];
    });
    __syncthreads();
  }

  /// Finds the load and the heaviest slot of each rank: one thread for a rank with few slots,
  /// otherwise a warp. Ends in a barrier.
  __device__ void measure_ranks() {
    const int slots = m_.sizes.main_slots;
    if (slots <= kFewSlots) {
      for_each(m_.sizes.num_ranks, [&](int g) {
        int sum = 0;
        int most = -1;
        int at = 0;
#pragma unroll 4
        for (int slot = g * slots; slot < (g + 1) * slots; ++slot) {
          const int tokens = m_.slot_tokens[slot];
          sum += tokens;
          at = tokens > most ? slot : at;
          most = max(most, tokens);
        }
        note_rank(g, sum, most, at);
      });
      __syncthreads();
      return;
    }
#pragma unroll 1
    for (int g = warp_; g < m_.sizes.num_ranks; g += kMostAttempts) {
      int sum = 0;
      int most = -1;
      int at = 0x7FFFFFFF;
#pragma unroll 1
      for (int slot = g * slots + lane_; slot < (g + 1) * slots; slot += device::kWarpSize) {
        const int tokens = m_.slot_tokens[slot];
        sum += tokens;
        at = tokens > most ? slot : at;
        most = max(most, tokens);
      }
      sum = __reduce_add_sync(~0u, sum);
      const int heaviest = __reduce_max_sync(~0u, most);
      at = __reduce_min_sync(~0u, most == heaviest ? at : 0x7FFFFFFF);
      if (lane_ == 0) note_rank(g, sum, heaviest, at);
    }
    __syncthreads();
  }

  __device__ void note_rank(int g, int load, int heaviest, int slot) const {
    m_.rank_load[g] = load;
    m_.heaviest[g] = heaviest;
    m_.heaviest_slot[g] = slot;
  }

  template <class Work>
  __device__ CopyPlan choose(Work in_parallel) {
    const int most = read_ranks();
    CopyPlan plan{most, 0, divide_up(total_, m_.num_live), 0, most};
    const int start = max(target_level(), plan.bound);
    if (warp_ != 0) in_parallel(thread_ - device::kWarpSize, kCopyThreads - device::kWarpSize);
    if (plan.max <= start) {
      __syncthreads();
      // Without copies, and above the bound: the target allows it.
      return plan.max > plan.bound ? raise_bound<kWords>(args_, memory_, plan) : plan;
    }
    if (warp_ == 0) {
      const bool is_packed = !m_.replicated && PackedFill<kWords>::fits(total_);
      const Attempt first =
          is_packed ? PackedFill<kWords>(m_, args_.min_tokens, 0, true).run(start, -1, true)
                    : fill_in_warp<kWords>(args_, memory_, 0, start, -1, true, true);
      if (lane_ == 0) m_.results[0] = first;
    }
    __syncthreads();
    const Attempt first = m_.results[0];
    if (first.max > plan.bound) return search_copies<kWords>(args_, memory_, start, first, plan);
    plan.max = first.max;
    plan.copies = first.copies;
    return plan;
  }

  /// Finds the tokens of all ranks. Returns those of the heaviest one.
  __device__ int read_ranks() {
    int most = 0;
    int sum = 0;
#pragma unroll
    for (int w = 0; w < kWords; ++w) {
      const int g = lane_ + device::kWarpSize * w;
      const int load = g < m_.sizes.num_ranks ? m_.rank_load[g] : 0;
      most = max(most, load);
      sum += load;
    }
    total_ = __reduce_add_sync(~0u, sum);
    device::store_shared_if(thread_ == 0, device::hold_address(&m_.scalars->total), total_);
    return __reduce_max_sync(~0u, most);
  }

  __device__ int target_level() const {
    if (args_.target_millionths == 1'000'000) return 0;  // the bound is as high
    return level_of(*m_.header, args_.target_millionths, total_);
  }

  /// Writes the results.
  __device__ void write(const CopyPlan& plan) const {
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
      for_each(sizes.num_ranks, [&](int g) { write_rank(g, plan.outside); });
    }
    if (warp_ == 0 && out.summary != nullptr) summarize(plan);
  }

  __device__ void write_rank(int g, int outside) const {
    const ReplicationOutputs& out = args_.out;
    if (out.rank_load != nullptr) {
      int sum = 0;
      for (int i = 0; i < m_.sizes.main_slots; ++i) {
        sum += m_.plan_main[g * m_.sizes.main_slots + i];
      }
      for (int i = 0; i < m_.sizes.dynamic_slots; ++i) {
        sum += m_.plan_dynamic[g * m_.sizes.dynamic_slots + i];
      }
      out.rank_load[g] = sum;
    }
    if (out.in_proof == nullptr) return;
    const bool proves = m_.is_alive(g) && (outside == 0 || m_.order_of_rank[g] >= outside);
    out.in_proof[g] = proves ? 1 : 0;
  }

  __device__ void summarize(const CopyPlan& plan) const {
    int sent = 0;
    int received = 0;
#pragma unroll 1
    for (int g = lane_; g < m_.sizes.num_ranks; g += device::kWarpSize) {
      sent = max(sent, m_.sent[g]);
      received = max(received, m_.received(g));
    }
    sent = __reduce_max_sync(~0u, sent);
    received = __reduce_max_sync(~0u, received);
    if (lane_ != 0) return;
    const bool is_optimal = plan.max <= plan.bound;
    *args_.out.summary = {is_optimal ? ReplicationStatus::kOptimal : ReplicationStatus::kBounded,
                          plan.max,
                          is_optimal ? plan.max : plan.bound,
                          plan.copies,
                          sent,
                          received,
                          plan.without};
  }

  const CopyArgs& args_;
  unsigned char* const memory_;
  CopyMemory m_;
  const int thread_;
  const int lane_;
  const int warp_;  // NOTE: known to be uniform, so that no vote of a warp is preceded by a check
  int total_ = 0;
};

}  // namespace lplb::replicas
