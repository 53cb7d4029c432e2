// SPDX-License-Identifier: MIT
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <cstring>
#include <memory>
#include <vector>

#include "lplb/weight_exchange.h"
#include "support/emulated_bulk.h"
#include "support/instances.h"

// NOTE: these come after the emulation, because they are compiled with it.
#include "exchange/weights/fetch.cuh"
#include "exchange/weights/kernels.h"
#include "exchange/weights/reduce.cuh"

// Runs the kernels that move weights of copies on the CPU, with ranks as clusters of blocks.
namespace lplb::testing {

/// Plans as they lie on the device: [num_ranks, S].
struct CopyPlan {
  std::vector<std::int32_t> expert, source;
};

/// A random plan: each slot is unused, or holds an expert that its rank has not.
inline CopyPlan random_copies(const Placement& p, Index slots, SplitMix64& random) {
  CopyPlan plan;
  for (Index g = 0; g < p.num_ranks; ++g) {
    for (Index s = 0; s < slots; ++s) {
      const Index physical = random.below(p.num_physical());
      const Index source = p.rank_of(physical);
      const Index expert = p.physical_to_logical[static_cast<std::size_t>(physical)];
      const bool is_used = source != g && p.alive(source) && p.alive(g) && random.below(4) != 0;
      plan.expert.push_back(is_used ? expert : -1);
      plan.source.push_back(is_used ? source : -1);
    }
  }
  return plan;
}

/// The members of a group in memory of the CPU.
class EmulatedWeights {
 public:
  EmulatedWeights(const Placement& p, Index num_layers, const DeviceWeightLayout& tensors,
                  const DeviceWeightOptions& options, int num_blocks, bool by_bulk,
                  bool live_only = false)
      : placement(p), type_(tensors.gradient_type), num_blocks_(num_blocks), by_bulk_(by_bulk) {
    std::vector<std::int32_t> member_of;
    for (Index g = 0; g < p.num_ranks; ++g) {
      const bool is_member = !live_only || p.alive(g);
      member_of.push_back(is_member ? static_cast<std::int32_t>(ranks.size()) : -1);
      if (is_member) ranks.push_back(g);
    }
    const auto num_members = static_cast<Index>(ranks.size());
    layout = exchange::lay_out(p, num_layers, num_members, tensors, options);
    for (Index m = 0; m < num_members; ++m) {
      buffers_.emplace_back(static_cast<std::size_t>(layout.bytes) / sizeof(uint4) + 16);
    }
    for (Index m = 0; m < num_members; ++m) {
      auto* const table = reinterpret_cast<unsigned long long*>(buffer(m));
      for (Index peer = 0; peer < num_members; ++peer) {
        table[peer] = reinterpret_cast<std::uintptr_t>(buffer(peer));
      }
      std::memcpy(buffer(m) + layout.member_of, member_of.data(), member_of.size() * 4);
      for (Index l = 0; l < num_layers; ++l) {
        std::memcpy(buffer(m) + layout.placement(l), p.physical_to_logical.data(),
                    p.physical_to_logical.size() * 4);
      }
      std::vector<std::vector<unsigned char>>& mine = main_gradients.emplace_back();
      for (int t = 0; t < layout.num_gradients; ++t) {
        mine.emplace_back(static_cast<std::size_t>(layout.gradient[t].bytes * layout.main_slots));
      }
    }
    outcome.assign(ranks.size(), -1);
    is_held.assign(ranks.size(), std::vector<std::int32_t>(kMaxDynamicSlots, -1));
  }

  unsigned char* buffer(Index member) {
    return reinterpret_cast<unsigned char*>(buffers_[static_cast<std::size_t>(member)].data());
  }
  unsigned char* main(Index member, Index layer, Index tensor, Index slot) {
    return buffer(member) + exchange::WeightsLayout::main(layout.tensor[tensor], layer, slot);
  }
  unsigned char* dynamic(Index member, Index layer, Index tensor, Index slot) {
    return buffer(member) + layout.dynamic(layout.tensor[tensor], layer, slot);
  }
  unsigned char* gradient(Index member, Index layer, Index tensor, Index slot) {
    return buffer(member) + layout.dynamic(layout.gradient[tensor], layer, slot);
  }
  void update(Index member, Index layer, Index slot) {
    ++*reinterpret_cast<unsigned long long*>(buffer(member) + layout.version(layer, slot));
  }
  const exchange::WeightControl& control(Index member) {
    return *reinterpret_cast<exchange::WeightControl*>(buffer(member) + layout.control);
  }

  /// What a member does in a call: `plan` is its own, and null if it only reduces.
  struct Part {
    Index member;
    const CopyPlan* plan;
    std::chrono::nanoseconds own_deadline{};  // 0: `deadline`
    Index after = -1;  // it begins when this member has told that it has left the call
  };
  void fetch(const CopyPlan& plan, Index layer = 0) {
    std::vector<Part> parts;
    for (std::size_t m = 0; m < ranks.size(); ++m) parts.push_back({static_cast<Index>(m), &plan});
    run(parts, layer);
  }
  void reduce(Index layer = 0) {
    std::vector<Part> parts;
    for (std::size_t m = 0; m < ranks.size(); ++m)
      parts.push_back({static_cast<Index>(m), nullptr});
    run(parts, layer);
  }

  /// Runs one call of the members in `parts`, at the same time.
  void run(const std::vector<Part>& parts, Index layer = 0) {
    struct BlockMemory {
      exchange::SharedFetch fetch;
      exchange::SharedReduce reduce;
      std::vector<uint4> tiles;
    };
    const auto blocks = static_cast<std::size_t>(num_blocks_);
    std::vector<BlockMemory> shared(parts.size() * blocks);
    for (BlockMemory& block : shared) {  // a block cannot rely on what it finds
      std::memset(&block.fetch, 0xFF, sizeof(block.fetch));
      std::memset(&block.reduce, 0xFF, sizeof(block.reduce));
      block.tiles.resize(static_cast<std::size_t>(num_buffers * exchange::kTile) / sizeof(uint4));
    }
    const bool fetches = parts[0].plan != nullptr;
    const std::vector<std::vector<unsigned char*>> memory(
        parts.size(), std::vector<unsigned char*>(blocks, nullptr));
    emulated::run_clusters(
        memory, fetches ? exchange::kFetchThreads : exchange::kReduceThreads, [&](std::size_t c) {
          BlockMemory& block = shared[c * blocks + blockIdx.x];
          auto* const tiles = reinterpret_cast<unsigned char*>(block.tiles.data());
          const Index m = parts[c].member;
          const Part& part = parts[c];
          while (part.after >= 0 && !has_left(part.after, m)) emulated::yield();
          const auto ns = part.own_deadline.count() != 0 ? part.own_deadline : deadline;
          exchange::WeightArgs args{buffer(m),
                                    layout,
                                    static_cast<unsigned long long>(ns.count()),
                                    m,
                                    ranks[static_cast<std::size_t>(m)],
                                    layer,
                                    num_buffers,
                                    &outcome[static_cast<std::size_t>(m)]};
          if (fetches) {
            const exchange::FetchArgs fetch{args, parts[c].plan->expert.data(),
                                            parts[c].plan->source.data(),
                                            is_held[static_cast<std::size_t>(m)].data()};
            exchange::Fetch call(fetch, block.fetch);
            by_bulk_ ? call.run<true>(tiles) : call.run<false>(tiles);
            return;
          }
          exchange::ReduceArgs reduce{args, {}};
          auto& mine = main_gradients[static_cast<std::size_t>(m)];
          for (std::size_t t = 0; t < mine.size(); ++t) reduce.main[t] = mine[t].data();
          exchange::Reduce call(reduce, block.reduce);
          if (type_ == GradientType::kFloat32) {
            by_bulk_ ? call.run<exchange::Float32Gradients, true>(tiles)
                     : call.run<exchange::Float32Gradients, false>(tiles);
          } else {
            by_bulk_ ? call.run<exchange::BFloat16Gradients, true>(tiles)
                     : call.run<exchange::BFloat16Gradients, false>(tiles);
          }
        });
  }

  const Placement placement;
  std::vector<Index> ranks;  // of the members
  exchange::WeightsLayout layout{};
  std::chrono::nanoseconds deadline = std::chrono::minutes(2);
  int num_buffers = 3;
  std::vector<std::int32_t> outcome;                                    // [members]
  std::vector<std::vector<std::int32_t>> is_held;                       // [members][slots]
  std::vector<std::vector<std::vector<unsigned char>>> main_gradients;  // [members][tensors]

 private:
  /// Whether a member has told another one that it has left a call.
  bool has_left(Index member, Index other) {
    const auto in_half = [&](std::uint32_t epoch) {
      return device::load_signal(buffer(other) + layout.word(epoch, member)) & exchange::kLeft;
    };
    return (in_half(0) | in_half(1)) != 0;
  }

  GradientType type_;
  int num_blocks_;
  bool by_bulk_;
  std::vector<std::vector<uint4>> buffers_;
};

}  // namespace lplb::testing
