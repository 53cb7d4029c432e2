// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <chrono>
#include <cstring>
#include <memory>
#include <numeric>
#include <span>
#include <vector>

#include "lplb/mapping.h"
#include "lplb/solver.h"
#include "support/emulated_block.h"
#include "support/plan_batches.h"

// NOTE: these come after the emulation, because they are compiled with it.
#include "plan/device/batch.cuh"

// Runs the plan's kernel on the CPU, with clusters and the exchange, and compares every id with
// those of solve() and map_tokens().
namespace lplb {
namespace {

using testing::draw_batch;
using testing::GroupBatch;
using testing::SplitMix64;

/// A rank's planner in memory of the CPU.
class EmulatedPlanner {
 public:
  EmulatedPlanner(const Placement& placement, Index rank, int num_blocks, int held_slices) {
    const Index redundants = placement.num_physical() - placement.num_logical_experts;
    const plan::Limits limits{placement.num_ranks, placement.num_logical_experts, redundants};
    is_cut_ = placement.num_ranks <= kMaxCutRanks;
    image_.assign(placement, is_cut_ ? Solver::kCut : Solver::kFlow);
    args_.layout = plan::lay_out(
        limits, std::int64_t{held_slices} * device::kWarpSize * plan::kWarps, 1, 1 << 24);
    // NOTE: the kernel copies more bytes than the image has.
    device_image_ = image_.bytes();
    device_image_.resize(plan::max_image_bytes(limits), 0);
    args_.image = device_image_.data();
    args_.status = &status_;
    args_.rank = rank;
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
    image_.assign(placement, is_cut_ ? Solver::kCut : Solver::kFlow);
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
    if (args_.previous != nullptr) {
      is_cut_ ? plan<true, true>(exchanges, memory) : plan<false, true>(exchanges, memory);
    } else {
      is_cut_ ? plan<true, false>(exchanges, memory) : plan<false, false>(exchanges, memory);
    }
  }

  std::vector<std::int64_t> result() const {
    const auto n = static_cast<std::size_t>(args_.num_entries);
    if (args_.id_bytes == 8) return {entries_.begin(), entries_.begin() + args_.num_entries};
    const auto* const ids = reinterpret_cast<const std::int32_t*>(entries_.data());
    return {ids, ids + n};
  }

  const plan::Status& status() const { return status_; }
  const plan::Image& image() const { return image_; }

 private:
  template <bool kCut, bool kStale>
  void plan(bool exchanges, void* memory) {
    exchanges ? plan_batch<kCut, true, kStale>(args_, memory)
              : plan_batch<kCut, false, kStale>(args_, memory);
  }

  bool is_cut_ = false;
  plan::Image image_;
  std::vector<unsigned char> device_image_;
  plan::Status status_{};
  plan::Args args_{};
  int num_valid_ = 0;
  std::vector<std::int64_t> entries_;
  std::vector<int> gathered_, packed_;
  plan::Previous previous_{};
  std::vector<std::vector<uint4>> blocks_;
};

/// What the first `num_valid` entries are mapped to; padding is mapped to -1.
std::vector<std::int64_t> map_on_cpu(const Placement& p, Index rank,
                                     const std::vector<Load>& counts,
                                     std::span<const std::int64_t> topk, std::size_t num_valid) {
  const auto experts = static_cast<std::size_t>(p.num_logical_experts);
  std::vector<Load> sum(experts, 0);
  for (std::size_t i = 0; i < counts.size(); ++i) sum[i % experts] += counts[i];
  std::vector<std::int64_t> out(topk.size(), -1);
  map_tokens(p, counts, solve(p, sum).physical_load, rank, topk.first(num_valid),
             std::span(out).first(num_valid));
  return out;
}

TEST(EmulatedPlan, EqualsCpuOnRandomGroups) {
  SplitMix64 random(1);
  for (int i = 0; i < 9; ++i) {
    const Placement p = testing::random_placement(random, i % 2 == 0 ? 8 : 20);
    const Index rank = random.below(p.num_ranks);
    const Index num_topk = 1 + random.below(4);
    const GroupBatch batch =
        draw_batch(p, {.num_topk = num_topk, .max_tokens = i % 3 == 0 ? 2000 : 60}, random);
    const std::vector<std::int64_t>& topk = batch.topk[static_cast<std::size_t>(rank)];
    const auto tokens = static_cast<int>(topk.size()) / num_topk;
    const int valid = i % 3 == 1 ? tokens / 2 : tokens;
    const std::span entries = std::span(topk).first(static_cast<std::size_t>(valid * num_topk));
    const auto experts = static_cast<std::size_t>(p.num_logical_experts);
    std::vector<Load> counts = batch.counts;
    count_tokens(entries,
                 std::span(counts).subspan(static_cast<std::size_t>(rank) * experts, experts));
    const auto want = map_on_cpu(p, rank, counts, topk, entries.size());

    EmulatedPlanner planner(p, rank, i < 6 ? 1 : 2, 4);
    const auto run = [&] {
      planner.spoil_memory();
      emulated::run_clusters({planner.memory()}, plan::kThreads,
                             [&](std::size_t) { planner.plan(); });
      return planner.result();
    };
    planner.give(batch.packed.data());
    planner.set<std::int32_t>(topk, num_topk, valid);
    ASSERT_EQ(run(), want) << i;
    planner.set<std::int64_t>(topk, num_topk, valid);
    ASSERT_EQ(run(), want) << i;
    // If all ranks have the same tokens, all map them as if only rank 0 had any.
    planner.give(nullptr);
    planner.set<std::int32_t>(topk, num_topk, valid);
    std::vector<Load> alone(counts.size(), 0);
    count_tokens(entries, std::span(alone).first(experts));
    ASSERT_EQ(run(), map_on_cpu(p, 0, alone, topk, entries.size())) << i;
    EXPECT_EQ(planner.status().batches, 3u);
    EXPECT_EQ(planner.status().optimal, 3u);
  }
}

/// Ranks that exchange their counts through buffers in CPU memory.
class EmulatedGroup {
 public:
  EmulatedGroup(const Placement& p, int num_blocks)
      : layout_(exchange::ExchangeLayout::of(p.num_ranks,
                                             static_cast<std::int64_t>(PackedLayout(p).size()))) {
    const auto bytes = static_cast<std::size_t>(layout_.bytes(1));
    for (Index g = 0; g < p.num_ranks; ++g) {
      buffers_.emplace_back(bytes / sizeof(uint4) + 16);
      planners_.push_back(std::make_unique<EmulatedPlanner>(p, g, num_blocks, 4));
    }
    for (Index g = 0; g < p.num_ranks; ++g) {
      auto* const table = reinterpret_cast<unsigned long long*>(buffer(g));
      for (Index peer = 0; peer < p.num_ranks; ++peer) {
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

  EmulatedPlanner& planner(Index g) { return *planners_[static_cast<std::size_t>(g)]; }

  /// Runs one batch of the ranks `in`, at the same time.
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

TEST(EmulatedPlan, RanksThatExchangePlanAsOne) {
  for (const int num_blocks : {1, 2}) {
    SplitMix64 random(7);
    Placement p = testing::random_placement(random, 3);
    while (p.num_ranks < 2 || PackedLayout(p).replicated.empty()) {
      p = testing::random_placement(random, 3);
    }
    std::vector<Index> all(static_cast<std::size_t>(p.num_ranks));
    std::iota(all.begin(), all.end(), 0);
    EmulatedGroup group(p, num_blocks);
    for (int round = 0; round < 4; ++round) {
      const GroupBatch batch = draw_batch(p, {.num_topk = 2, .max_tokens = 900}, random);
      for (const Index g : all) {
        const auto& topk = batch.topk[static_cast<std::size_t>(g)];
        group.planner(g).set<std::int32_t>(topk, 2, static_cast<int>(topk.size() / 2));
      }
      group.run(all);
      for (const Index g : all) {
        const auto& topk = batch.topk[static_cast<std::size_t>(g)];
        ASSERT_EQ(group.planner(g).result(), map_on_cpu(p, g, batch.counts, topk, topk.size()))
            << "round " << round << ", rank " << g << ", " << num_blocks << " blocks";
        ASSERT_EQ(group.planner(g).status().optimal, static_cast<unsigned>(round) + 1);
      }
    }
  }
}

TEST(EmulatedPlan, ARankThatStaysAwayIsGivenUp) {
  const Placement p = make_placement(2, 3, std::vector<Index>{0, 1, 0, 2});
  for (const int num_blocks : {1, 2}) {
    EmulatedGroup group(p, num_blocks);
    const std::vector<std::int64_t> topk = {0, 0, 0, 0, 1, 2, 0, 0};
    const auto set = [&](Index g) { group.planner(g).set<std::int32_t>(topk, 1, 8); };
    group.set_deadline(std::chrono::milliseconds(20));
    set(0);
    group.run({0});
    EXPECT_EQ(group.planner(0).status().lost, 1u);
    EXPECT_EQ(group.planner(0).status().degraded, 1u);
    for (const std::int64_t id : group.planner(0).result()) EXPECT_GE(id, 0);
    // The late rank lacks nothing, because rank 0 had sent its counts.
    group.set_deadline(std::chrono::minutes(2));
    set(1);
    group.run({1});
    EXPECT_EQ(group.planner(1).status().solved, 1u);
    set(0);
    set(1);
    group.run({0, 1});
    EXPECT_EQ(group.planner(0).status().solved, 1u);
    EXPECT_EQ(group.planner(1).status().solved, 2u);
    EXPECT_EQ(group.planner(0).status().last_total, 16);
    EXPECT_EQ(group.planner(1).status().last_total, 16);
  }
}

TEST(EmulatedPlan, WithStalenessEqualsTheMapInProportion) {
  SplitMix64 random(21);
  for (int i = 0; i < 6; ++i) {
    const Placement p = testing::random_placement(random, i % 2 == 0 ? 8 : 20);
    const Index rank = random.below(p.num_ranks);
    EmulatedPlanner planner(p, rank, i < 4 ? 1 : 2, 4);
    planner.be_stale();
    const auto run = [&](const GroupBatch& batch) {
      const auto& topk = batch.topk[static_cast<std::size_t>(rank)];
      planner.set<std::int32_t>(topk, 2, static_cast<int>(topk.size() / 2));
      planner.spoil_memory();
      emulated::run_clusters({planner.memory()}, plan::kThreads,
                             [&](std::size_t) { planner.plan(); });
      const std::size_t size = planner.packed().size();
      const auto row = std::span(batch.packed).subspan(static_cast<std::size_t>(rank) * size, size);
      EXPECT_TRUE(std::equal(row.begin(), row.end(), planner.packed().begin()));
      return planner.result();
    };
    GroupBatch last = draw_batch(p, {.num_topk = 2, .max_tokens = 300}, random);
    run(last);
    EXPECT_EQ(planner.status().unplanned, 1u);
    EXPECT_EQ(planner.status().last_outcome, plan::kUnplanned);
    for (int round = 0; round < 2; ++round) {
      const GroupBatch batch = draw_batch(p, {.num_topk = 2, .max_tokens = 300}, random);
      planner.give(last.packed.data());
      const auto& topk = batch.topk[static_cast<std::size_t>(rank)];
      ASSERT_EQ(run(batch), testing::map_stale(p, last.counts, rank, topk)) << i;
      last = batch;
    }
    EXPECT_EQ(planner.status().optimal, 2u);
    EXPECT_EQ(planner.status().degraded, 0u);
    // Impossible counts of any rank are refused, even if they are this rank's own.
    std::vector<std::int32_t> broken = last.packed;
    broken[static_cast<std::size_t>(rank) * planner.packed().size()] = -1;
    planner.give(broken.data());
    run(last);
    EXPECT_EQ(planner.status().bad_counts, 1u);
    EXPECT_EQ(planner.status().last_outcome, plan::kDegraded);
  }
}

// The ranks run one after another. No rank waits for one that is less than a batch behind.
TEST(EmulatedPlan, RanksThatExchangeLateDoNotWaitWithinABatch) {
  const auto placed = [](std::vector<Index> map) { return make_placement(3, 6, map); };
  const Placement first = placed({0, 1, 2, 2, 3, 4, 4, 5, 0});
  const Placement moved = placed({0, 2, 1, 2, 3, 4, 4, 5, 0});  // the same layout
  const Placement other = placed({0, 1, 3, 2, 3, 4, 4, 5, 2});  // another
  for (const int num_blocks : {1, 2}) {
    SplitMix64 random(22);
    EmulatedGroup group(first, num_blocks);
    for (Index g = 0; g < 3; ++g) group.planner(g).be_stale();
    GroupBatch last;
    Placement p = first;
    unsigned solved = 0;
    for (int round = 0; round < 7; ++round) {
      const bool starts = round == 0 || round == 5;
      if (round == 3 || round == 5) {
        p = round == 3 ? moved : other;
        for (Index g = 0; g < 3; ++g) group.planner(g).update(p);
      }
      const GroupBatch batch = draw_batch(p, {.num_topk = 2, .max_tokens = 300}, random);
      solved += starts ? 0 : 1;
      for (Index i = 0; i < 3; ++i) {
        const Index g = (round + i) % 3;
        const auto& topk = batch.topk[static_cast<std::size_t>(g)];
        group.planner(g).set<std::int32_t>(topk, 2, static_cast<int>(topk.size() / 2));
        group.run({g});
        ASSERT_EQ(group.planner(g).status().optimal, solved) << "round " << round;
        if (starts) continue;
        ASSERT_EQ(group.planner(g).result(), testing::map_stale(p, last.counts, g, topk))
            << "round " << round << ", rank " << g << ", " << num_blocks << " blocks";
      }
      last = batch;
    }
    EXPECT_EQ(group.planner(0).status().unplanned, 2u);
    EXPECT_EQ(group.planner(0).status().lost, 0u);
  }
}

// There are more peers than a block has warps, and each has more lines than a warp has lanes. With
// staleness, so that the ranks need not run at the same time.
TEST(EmulatedPlan, AWarpGathersFromSeveralPeers) {
  constexpr Index kRanks = 20;
  static_assert(kRanks > plan::kWarps + 1);
  std::vector<Index> map;
  for (Index g = 0; g < kRanks; ++g) {
    for (Index e = 0; e < 5; ++e) map.push_back(g * 5 + e);
    for (Index e = 0; e < 4; ++e) map.push_back((g + 1) % kRanks * 5 + e);
  }
  const Placement p = make_placement(kRanks, 5 * kRanks, map);
  ASSERT_GT(PackedLayout(p).size(), 2 * device::kWarpSize);
  SplitMix64 random(23);
  EmulatedGroup group(p, 1);
  for (Index g = 0; g < kRanks; ++g) group.planner(g).be_stale();
  GroupBatch last;
  for (unsigned round = 0; round < 3; ++round) {
    const GroupBatch batch = draw_batch(p, {.num_topk = 2, .max_tokens = 100}, random);
    for (Index g = 0; g < kRanks; ++g) {
      const auto& topk = batch.topk[static_cast<std::size_t>(g)];
      group.planner(g).set<std::int32_t>(topk, 2, static_cast<int>(topk.size() / 2));
      group.run({g});
      ASSERT_EQ(group.planner(g).status().optimal, round);
      if (round == 0) continue;
      ASSERT_EQ(group.planner(g).result(), testing::map_stale(p, last.counts, g, topk)) << g;
    }
    last = batch;
  }
}

// The rank stays away, so that its counts do not come in time. The next batches of the other rank
// go on without them.
TEST(EmulatedPlan, ARankThatIsLateByABatchIsGivenUp) {
  const Placement p = make_placement(2, 3, std::vector<Index>{0, 1, 0, 2});
  EmulatedGroup group(p, 2);
  const std::vector<std::int64_t> topk = {0, 0, 0, 0, 1, 2, 0, 0};
  const auto run = [&](std::vector<Index> in) {
    for (const Index g : in) group.planner(g).set<std::int32_t>(topk, 1, 8);
    group.run(in);
  };
  for (const Index g : {0, 1}) group.planner(g).be_stale();
  run({0});
  group.set_deadline(std::chrono::milliseconds(20));
  run({0});
  run({0});
  EXPECT_EQ(group.planner(0).status().unplanned, 1u);
  EXPECT_EQ(group.planner(0).status().lost, 2u);
  EXPECT_EQ(group.planner(0).status().degraded, 2u);
  group.set_deadline(std::chrono::minutes(2));
  run({1});  // the first batch of rank 1
  run({1});  // it needs a round that rank 0 has given up and overwritten
  EXPECT_EQ(group.planner(1).status().lost, 1u);
  run({1});
  EXPECT_EQ(group.planner(1).status().solved, 1u);
  run({0, 1});
  EXPECT_EQ(group.planner(0).status().solved, 1u);
  EXPECT_EQ(group.planner(1).status().solved, 2u);
  EXPECT_EQ(group.planner(0).status().last_total, 16);
}

}  // namespace
}  // namespace lplb
