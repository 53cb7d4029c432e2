// SPDX-License-Identifier: MIT
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <cstring>
#include <memory>
#include <numeric>
#include <span>
#include <vector>

#include "lplb/mapping.h"
#include "lplb/solver.h"
#include "plan/members.h"
#include "support/emulated_block.h"
#include "support/plan_batches.h"

// NOTE: these come after the emulation, because they are compiled with it.
#include "plan/device/copies.cuh"
#include "plan/device/quotas.cuh"

// Runs the plan's kernel on the CPU, with clusters and the exchange. Tests compare every id with
// those of solve() and map_tokens().
namespace lplb::testing {

/// A rank's planner in memory of the CPU.
class EmulatedPlanner {
 public:
  /// `num_members`: the ranks of the group; 0: all ranks of the placement.
  /// `cost`: what tokens cost, or null. `copies`: how copies are chosen, or null: no dynamic slots.
  EmulatedPlanner(const Placement& placement, Index rank, int num_blocks, int held_slices,
                  Index num_members = 0, const CostModel* cost = nullptr,
                  const ReplicateOptions* copies = nullptr)
      : num_members_(num_members != 0 ? num_members : placement.num_ranks), cost_(cost) {
    const Index redundants = placement.num_physical() - placement.num_logical_experts;
    const plan::Limits limits{placement.num_ranks, placement.num_logical_experts, redundants, cost,
                              copies == nullptr ? 0 : copies->dynamic_slots};
    is_cut_ = placement.num_ranks <= kMaxCutRanks;
    if (copies == nullptr) {
      image_.assign(placement, is_cut_ ? Solver::kCut : Solver::kFlow, num_members_, cost);
    } else {
      image_.assign_with_copies(placement, num_members_, copies->dynamic_slots, 1);
      take_copies(placement, *copies);
    }
    args_.layout =
        plan::lay_out(limits, std::int64_t{held_slices} * device::kWarpSize * plan::kWarps, 1,
                      1 << 24, args_.copies.layout.bytes);
    args_.copies.layout.offset = args_.layout.copies;
    // NOTE: the kernel copies more bytes than the image has.
    device_image_ = image_.bytes();
    device_image_.resize(plan::max_image_bytes(limits), 0);
    args_.image = device_image_.data();
    args_.status = &status_;
    args_.rank = rank;
    args_.row = plan::members_below(placement, num_members_)[static_cast<std::size_t>(rank)];
    args_.num_blocks = num_blocks;
    args_.max_steps = solvers::device_steps(placement.num_ranks, -1);
    gathered_.resize(static_cast<std::size_t>(placement.num_ranks * args_.layout.max_columns));
    packed_.resize(static_cast<std::size_t>(args_.layout.max_columns));
    blocks_.resize(static_cast<std::size_t>(num_blocks));
    for (auto& block : blocks_) {
      block.resize(static_cast<std::size_t>(args_.layout.bytes) / sizeof(uint4) + 1);
    }
  }

  /// Sets the tokens, which are mapped in place; the first `num_valid` are real.
  template <class Id>
  void set(const std::vector<std::int64_t>& topk, Index num_topk, int num_valid) {
    entries_.assign(topk.size() * sizeof(Id) / sizeof(std::int64_t) + 1, 0);
    auto* const ids = reinterpret_cast<Id*>(entries_.data());
    for (std::size_t i = 0; i < topk.size(); ++i) ids[i] = static_cast<Id>(topk[i]);
    args_.topk_idx = args_.physical_idx = ids;
    args_.id_bytes = sizeof(Id);
    args_.num_topk = num_topk;
    args_.num_entries = static_cast<int>(topk.size());
    args_.num_tokens = args_.num_entries / num_topk;
    args_.stretch = device::kWarpSize *
                    device::slices_per_warp(args_.num_entries, args_.num_blocks * plan::kWarps);
    num_valid_ = num_valid;
    args_.num_valid_tokens = &num_valid_;
  }

  /// From now on, each batch is split by the previous one.
  void be_stale() {
    args_.previous = &previous_;
    args_.packed = packed_.data();
  }
  void update(const Placement& placement) {
    image_.assign(placement, is_cut_ ? Solver::kCut : Solver::kFlow, num_members_, cost_);
    std::copy(image_.bytes().begin(), image_.bytes().end(), device_image_.begin());
  }
  /// This rank's counts of the latest batch.
  std::span<const int> packed() const { return std::span(packed_).first(image_.layout().size()); }

  void give(const std::int32_t* all_counts) { args_.all_counts = all_counts; }
  void exchange(const exchange::PeerArgs& peers) {
    args_.peers = peers;
    args_.gathered = gathered_.data();
    args_.all_counts = args_.gathered;
  }

  std::vector<unsigned char*> memory() {
    std::vector<unsigned char*> memory;
    for (auto& block : blocks_) memory.push_back(reinterpret_cast<unsigned char*>(block.data()));
    return memory;
  }

  /// Fills the blocks' memory with junk, because a block cannot rely on what it finds there.
  void spoil_memory() {
    for (auto& block : blocks_) std::memset(block.data(), 0xFF, block.size() * sizeof(uint4));
  }

  /// Plans the batch. Each thread calls it.
  void plan() {
    void* const memory = blocks_[blockIdx.x].data();
    const bool exchanges = args_.peers.own != nullptr;
    if (args_.layout.has_copies != 0) {
      args_.copies.sizes.is_general() ? plan_with_copies<true>(exchanges, memory)
                                      : plan_with_copies<false>(exchanges, memory);
    } else if (args_.previous != nullptr) {
      is_cut_ ? plan<true, true, false>(exchanges, memory)
              : plan<false, true, false>(exchanges, memory);
    } else if (cost_ != nullptr) {
      is_cut_ ? plan<true, false, true>(exchanges, memory)
              : plan<false, false, true>(exchanges, memory);
    } else {
      is_cut_ ? plan<true, false, false>(exchanges, memory)
              : plan<false, false, false>(exchanges, memory);
    }
  }

  /// Plans the batch by itself, in memory full of junk. Returns what the entries are mapped to.
  std::vector<std::int64_t> run_alone() {
    spoil_memory();
    emulated::run_clusters({memory()}, plan::kThreads, [&](std::size_t) { plan(); });
    return result();
  }

  std::vector<std::int64_t> result() const {
    const auto n = static_cast<std::size_t>(args_.num_entries);
    if (args_.id_bytes == 8) return {entries_.begin(), entries_.begin() + args_.num_entries};
    const auto* const ids = reinterpret_cast<const std::int32_t*>(entries_.data());
    return {ids, ids + n};
  }

  /// What the batch left about dynamic slots: slot_expert, slot_source, is_new.
  const std::vector<std::int32_t>& copies(int which) const { return copies_[which]; }

  /// Keeps the splits of the batches from now on, for write_quotas(). With dynamic slots.
  void keep_split() {
    const auto columns = static_cast<std::size_t>(args_.layout.max_columns);
    const auto slots = static_cast<std::size_t>(image_.header().num_ranks) *
                       static_cast<std::size_t>(image_.header().slots_per_rank);
    const std::size_t sizes[] = {columns, slots, columns, plan::kTraceSize, columns + slots};
    for (std::size_t i = 0; i < 5; ++i) trace_[i].assign(sizes[i], -1);
    replica_begin_.assign(columns + 1, 0);
    args_.trace = {trace_[0].data(), trace_[1].data(), trace_[2].data(),
                   trace_[3].data(), trace_[4].data(), replica_begin_.data()};
  }
  /// Writes the quotas of the last batch, as the kernel for them does.
  void write_quotas(const QuotaOutputs& outputs) const {
    const plan::QuotaArgs quotas{args_.image, args_.all_counts, args_.rank,
                                 args_.row,   args_.trace,      outputs};
    for (Index e = 0; e <= image_.header().num_logical; ++e) plan::write_quotas_of(quotas, e);
  }

  const plan::Status& status() const { return status_; }
  const plan::Image& image() const { return image_; }

 private:
  void take_copies(const Placement& placement, const ReplicateOptions& options) {
    const replicas::CopySizes sizes = replicas::copy_sizes(placement, options);
    args_.copies = replicas::copy_args(sizes, options, replicas::make_copy_tables(sizes), 1 << 15);
    replicas::write_copy_image(placement, sizes, args_.copies.layout, copy_image_);
    args_.copies.image = copy_image_.data();
    for (auto& array : copies_) {
      array.assign(static_cast<std::size_t>(sizes.num_dynamic()), -1);
    }
    args_.copy_state = {copies_[0].data(), copies_[1].data(), copies_[2].data(), copies_[3].data()};
  }

  template <bool kDomains>
  void plan_with_copies(bool exchanges, void* memory) {
    exchanges ? plan_batch_with_copies<true, kDomains>(args_, memory)
              : plan_batch_with_copies<false, kDomains>(args_, memory);
  }

  template <bool kCut, bool kStale, bool kCost>
  void plan(bool exchanges, void* memory) {
    exchanges ? plan_batch<kCut, true, kStale, kCost>(args_, memory)
              : plan_batch<kCut, false, kStale, kCost>(args_, memory);
  }

  const Index num_members_;
  const CostModel* cost_;
  bool is_cut_ = false;
  plan::Image image_;
  std::vector<unsigned char> device_image_;
  plan::Status status_{};
  plan::Args args_{};
  int num_valid_ = 0;
  std::vector<std::int64_t> entries_;
  std::vector<int> gathered_, packed_;
  std::vector<unsigned char> copy_image_;
  std::vector<std::int32_t> copies_[4];  // the last one: what the slots held
  std::vector<int> trace_[5];            // own, quota, group_counts, state, physical
  std::vector<std::uint16_t> replica_begin_;
  plan::Previous previous_{};
  std::vector<std::vector<uint4>> blocks_;
};

/// What the first `num_valid` entries are mapped to; padding is mapped to -1.
inline std::vector<std::int64_t> map_on_cpu(const Placement& p, Index rank,
                                            const std::vector<Load>& counts,
                                            std::span<const std::int64_t> topk,
                                            std::size_t num_valid, const SolveOptions& how = {}) {
  const auto experts = static_cast<std::size_t>(p.num_logical_experts);
  std::vector<Load> sum(experts, 0);
  for (std::size_t i = 0; i < counts.size(); ++i) sum[i % experts] += counts[i];
  std::vector<std::int64_t> out(topk.size(), -1);
  map_tokens(p, counts, solve(p, sum, how).physical_load, rank, topk.first(num_valid),
             std::span(out).first(num_valid));
  return out;
}

/// Ranks that exchange their counts through buffers in CPU memory.
class EmulatedGroup {
 public:
  EmulatedGroup(const Placement& p, int num_blocks)
      : EmulatedGroup(p, num_blocks, [&] {
          std::vector<Index> all(static_cast<std::size_t>(p.num_ranks));
          std::iota(all.begin(), all.end(), 0);
          return all;
        }()) {}

  /// `members`: all ranks, or the live ones.
  EmulatedGroup(const Placement& p, int num_blocks, const std::vector<Index>& members,
                const CostModel* cost = nullptr, const ReplicateOptions* copies = nullptr)
      : layout_(exchange::ExchangeLayout::of(
            static_cast<Index>(members.size()),
            static_cast<std::int64_t>(PackedLayout(p, cost == nullptr && copies == nullptr
                                                          ? Singles::kSummed
                                                          : Singles::kEach)
                                          .size()))) {
    const auto bytes = static_cast<std::size_t>(layout_.bytes(1));
    for (const Index g : members) {
      buffers_.emplace_back(bytes / sizeof(uint4) + 16);
      planners_.push_back(
          std::make_unique<EmulatedPlanner>(p, g, num_blocks, 4, layout_.num_ranks, cost, copies));
    }
    for (Index i = 0; i < layout_.num_ranks; ++i) {
      auto* const table = reinterpret_cast<unsigned long long*>(buffer(i));
      for (Index peer = 0; peer < layout_.num_ranks; ++peer) {
        table[peer] = reinterpret_cast<std::uintptr_t>(buffer(peer));
      }
    }
    set_deadline(std::chrono::minutes(2));
  }

  void set_deadline(std::chrono::nanoseconds deadline) {
    for (Index g = 0; g < layout_.num_ranks; ++g) {
      planner(g).exchange({buffer(g), reinterpret_cast<unsigned long long*>(buffer(g)),
                           layout_.channel(0), static_cast<unsigned long long>(deadline.count()),
                           layout_, g});
    }
  }

  EmulatedPlanner& planner(Index member) { return *planners_[static_cast<std::size_t>(member)]; }

  /// Runs one batch of the members `in`, at the same time.
  void run(const std::vector<Index>& in) {
    std::vector<std::vector<unsigned char*>> memory;
    memory.reserve(in.size());
    for (const Index g : in) {
      planner(g).spoil_memory();
      memory.push_back(planner(g).memory());
    }
    emulated::run_clusters(memory, plan::kThreads, [&](std::size_t c) { planner(in[c]).plan(); });
  }

 private:
  unsigned char* buffer(Index g) {
    return reinterpret_cast<unsigned char*>(buffers_[static_cast<std::size_t>(g)].data());
  }

  exchange::ExchangeLayout layout_;
  std::vector<std::vector<uint4>> buffers_;
  std::vector<std::unique_ptr<EmulatedPlanner>> planners_;
};

}  // namespace lplb::testing
