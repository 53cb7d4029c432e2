// SPDX-License-Identifier: MIT
#pragma once

#include "plan/device/batch.cuh"
#include "replicate/device/choose.cuh"
#include "replicate/device/general.cuh"

// The plan's kernel with dynamic slots: copies are chosen in place of the solver. Every expert has
// a column, and counts as one with several replicas, because which ones have copies is known only
// after the choice. The replicas of the batch are listed after it.
namespace lplb::plan {

/// The copies of a batch, in one block. All threads of the block call its functions.
class Copies {
 public:
  __device__ explicit Copies(Shared& shared)
      : s_(shared), memory_(shared.m), m_(memory_, shared.a.copies.sizes, shared.a.copies.layout) {}

  /// Starts to copy the image of replicate/device.
  __device__ void begin() const { replicas::CopyBlock(s_.a.copies, memory_).bring_image(); }

  /// Where the sums over the ranks go.
  __device__ int* want() const { return m_.want; }

  /// Chooses the copies, unless the batch is refused. In parallel, most threads call
  /// in_parallel(worker, num_workers). kGeneral: for several domains. Ends in a barrier.
  template <bool kGeneral, class Work>
  __device__ void choose(Work in_parallel) {
    if (kGeneral || s_.is_refused()) {
      in_parallel(thread(), kThreads);
      __syncthreads();
      if (!kGeneral || s_.is_refused()) return;
    }
    if constexpr (kGeneral) {
      const replicas::GeneralPlan plan = replicas::GeneralChoice(s_.a.copies, memory_).run();
      report(plan.max.tokens, plan.bound.tokens, plan.copies);
    } else {
      const replicas::CopyPlan plan = choose_quickly(in_parallel);
      report(plan.max, plan.bound, plan.copies);
    }
  }

  /// Lists the replicas of the batch: those in main slots and the copies, by physical id within an
  /// expert, with their quotas. Ends in a barrier.
  __device__ void list() {
    const int num_dynamic = m_.sizes.num_dynamic();
    int* const column = &s_.at<int>(s_.a.layout.copy_column);
    LPLB_ROLLED
    for (int i = thread(); i < num_dynamic; i += kThreads) {
      const int e = m_.dynamic_expert[i];
      column[i] = e < 0 ? -1 : s_.list<int>(s_.h.codes)[e + 1] >> kCodeBits;
    }
    __syncthreads();
    auto* const begin = &s_.at<std::uint16_t>(s_.a.layout.replica_begin);
    LPLB_ROLLED
    for (int k = thread(); k <= s_.h.num_replicated; k += kThreads) {
      int to = s_.list<std::uint16_t>(s_.h.replica_begin)[k];
      LPLB_ROLLED
      for (int i = 0; i < num_dynamic; ++i) to += column[i] >= 0 && column[i] < k ? 1 : 0;
      begin[k] = static_cast<std::uint16_t>(to);
      if (k < s_.h.num_replicated) list_expert(k, to, column);
    }
    __syncthreads();
    s_.h.physical = s_.a.layout.physical - s_.a.layout.image;
    s_.h.replicas = s_.a.layout.replicas - s_.a.layout.image;
    s_.h.replica_rank = s_.a.layout.replica_rank - s_.a.layout.image;
    s_.h.replica_begin = s_.a.layout.replica_begin - s_.a.layout.image;
    s_.h.num_replicas = begin[s_.h.num_replicated];
  }

  /// Keeps what the dynamic slots hold, in device memory. All threads of one block call it.
  __device__ void keep() const {
    const CopyState& state = s_.a.copy_state;
    const bool degraded = s_.is_degraded();
    LPLB_ROLLED
    for (int i = thread(); i < m_.sizes.num_dynamic(); i += kThreads) {
      const int e = degraded ? -1 : m_.dynamic_expert[i];
      state.slot_expert[i] = e;
      state.slot_source[i] = e < 0 ? -1 : m_.source[i];
      state.is_new[i] = e >= 0 && e != state.held[i] ? 1 : 0;
      if (e >= 0 || degraded) state.held[i] = e;
    }
  }

 private:
  template <class Work>
  __device__ replicas::CopyPlan choose_quickly(Work in_parallel) const {
    switch (s_.a.copies.sizes.rank_words()) {
      case 1:
        return replicas::CopyChoice<1>(s_.a.copies, memory_).plan(in_parallel);
      case 2:
        return replicas::CopyChoice<2>(s_.a.copies, memory_).plan(in_parallel);
      default:
        return replicas::CopyChoice<4>(s_.a.copies, memory_).plan(in_parallel);
    }
  }

  /// Levels in tokens: the ranks have one speed.
  __device__ void report(int max, int bound, int copies) const {
    if (thread() != 0) return;
    s_.outcome() = {min(bound, max), max, 0, max <= bound ? 1 : 0};
    s_.common().copies = copies;
  }

  /// Merges the replicas of expert k in main slots with its copies; both are in order.
  __device__ void list_expert(int k, int to, const int* column) const {
    const auto* const from = s_.list<std::uint16_t>(s_.h.replica_begin);
    const int main = m_.sizes.main_slots;
    int next = from[k];
    const auto put_main = [&] {
      const int physical = s_.list<int>(s_.h.physical)[next];
      const int rank = s_.list<std::uint16_t>(s_.h.replica_rank)[next++];
      put(to++, k, physical, rank,
          m_.plan_main[rank * main + physical - rank * s_.h.slots_per_rank]);
    };
    LPLB_ROLLED
    for (int i = 0; i < m_.sizes.num_dynamic(); ++i) {
      if (column[i] != k) continue;
      const int rank = i / m_.sizes.dynamic_slots;
      const int physical = rank * s_.h.slots_per_rank + main + i - rank * m_.sizes.dynamic_slots;
      while (next < from[k + 1] && s_.list<int>(s_.h.physical)[next] < physical) put_main();
      put(to++, k, physical, rank, m_.plan_dynamic[i]);
    }
    while (next < from[k + 1]) put_main();
  }

  __device__ void put(int at, int k, int physical, int rank, int quota) const {
    (&s_.at<int>(s_.a.layout.physical))[at] = physical;
    (&s_.at<std::uint16_t>(s_.a.layout.replica_rank))[at] = static_cast<std::uint16_t>(rank);
    (&s_.at<Replica>(s_.a.layout.replicas))[at] = {0, 0, 0, static_cast<std::uint16_t>(k)};
    s_.quota()[at] = quota;
  }

  Shared& s_;
  unsigned char* const memory_;
  const replicas::CopyMemory m_;
};

/// plan_batch() with dynamic slots; kGeneral: in several domains.
template <bool kExchange, bool kGeneral>
__device__ __forceinline__ void plan_batch_with_copies(const Args& args, void* memory) {
  const int num_blocks = static_cast<int>(gridDim.x);
  Shared shared(args, memory);
  Plan plan(shared);
  Copies copies(shared);
  exchange::PeerRound round(args.peers, plan.rows.verdict(), block_id(), num_blocks);
  read_batch<kExchange, false, false, true>(plan, round, true, [&] {
    copies.begin();
    if (num_blocks == 1) return;
    plan.rows.open_mailboxes<kExchange>(num_blocks);
    device::arrive_at_cluster();
  });
  plan.entries.count();
  if (num_blocks > 1) device::wait_for_cluster();  // all blocks have started
  plan.rows.send_totals(num_blocks);
  bring_counts<kExchange, false>(plan, round, num_blocks, num_blocks,
                                 [&] { plan.rows.wait_for_totals(num_blocks); });
  plan.solve.gather<false, false, true>(num_blocks, copies.want());
  copies.choose<kGeneral>([&](int worker, int num_workers) {
    plan.entries.number_warps(worker, num_workers);
    if (kExchange && num_blocks > 1 && worker == num_workers - 1) {
      plan.rows.join_verdicts(num_blocks);
    }
  });
  if (!shared.is_degraded()) {
    copies.list();
    plan.segments.sum_ranks(thread(), kThreads);
    __syncthreads();
  }
  plan.segments.make<false, true>(plan.entries, [&] {
    if (kExchange && device::lane_id() == 0) end_round<false>(plan, round);
    report(plan.shared, plan.entries, num_blocks);
  });
  plan.entries.map();
  if (block_id() != 0) return;
  copies.keep();
  keep_trace(plan.shared, plan.entries);
}

}  // namespace lplb::plan
