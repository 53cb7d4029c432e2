// SPDX-License-Identifier: MIT
#include "lplb/device_replicator.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "lplb/backend.h"
#include "replicate/device/copies_test_support.h"
#include "support/device_vector.h"
#include "support/instances.h"

// DeviceReplicator is compared with Replicator: they are equal in every integer.
namespace lplb {
namespace {

using testing::DeviceVector;
using testing::Instance;
using testing::SplitMix64;

class DeviceReplicatorCuda : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!cuda_support().missing.empty()) GTEST_SKIP() << "no GPU: " << cuda_support().missing;
  }
};

/// A replicator on the device and one on the CPU, which get the same batches.
class Twins {
 public:
  explicit Twins(const Placement& placement, const ReplicateOptions& options = {})
      : cpu_(placement, options),
        device_(placement, options),
        placement_(placement),
        cost_(options.cost) {
    const auto ranks = static_cast<std::size_t>(placement.num_ranks);
    const auto dynamic = ranks * static_cast<std::size_t>(options.dynamic_slots);
    slot_expert_.set(std::vector<std::int32_t>(dynamic, 7));
    slot_source_.set(std::vector<std::int32_t>(dynamic, 7));
    physical_load_.set(
        std::vector<std::int32_t>(dynamic + placement.physical_to_logical.size(), 7));
    rank_load_.set(std::vector<std::int32_t>(ranks, 7));
    in_proof_.set(std::vector<std::int32_t>(ranks, 7));
    summary_.set({ReplicationSummary{}});
  }

  DeviceReplicator& device() { return device_; }
  cudaStream_t stream() const { return stream_.get(); }

  void follow(const Placement& placement, const ReplicateOptions& options) {
    placement_ = placement;
    cpu_ = Replicator(placement, options);
    device_.update_placement(stream(), placement);
  }

  void set_load(const std::vector<Load>& load) { load_.set({load.begin(), load.end()}); }

  void launch() {
    device_.run(stream(), load_.data(),
                {.slot_expert = slot_expert_.data(),
                 .slot_source = slot_source_.data(),
                 .physical_load = physical_load_.data(),
                 .rank_load = rank_load_.data(),
                 .in_proof = in_proof_.data(),
                 .summary = summary_.data()});
  }

  ReplicationSummary summary() const { return summary_.get()[0]; }

  /// Expects what the CPU makes of `load`.
  void expect(const std::vector<Load>& load, const std::string& name) {
    LPLB_CUDA_CHECK(cudaStreamSynchronize(stream()));
    Replication want;
    cpu_.run(load, want);
    const auto wide = [](const std::vector<std::int32_t>& v) {
      return std::vector<Load>(v.begin(), v.end());
    };
    EXPECT_EQ(slot_expert_.get(), want.slot_expert) << name;
    EXPECT_EQ(slot_source_.get(), want.slot_source) << name;
    EXPECT_EQ(wide(physical_load_.get()), want.physical_load) << name;
    EXPECT_EQ(wide(rank_load_.get()), want.rank_load) << name;
    std::vector<std::int32_t> in_proof(static_cast<std::size_t>(placement_.num_ranks), 0);
    for (const Index g : want.bottleneck_ranks) in_proof[static_cast<std::size_t>(g)] = 1;
    EXPECT_EQ(in_proof_.get(), in_proof) << name;
    const ReplicationSummary got = summary();
    const bool is_optimal = want.status == SolveStatus::kOptimal;
    EXPECT_EQ(got.status, is_optimal ? ReplicationStatus::kOptimal : ReplicationStatus::kBounded)
        << name;
    const Level bound = is_optimal ? want.max_level : want.bound_level;
    EXPECT_EQ(got.max_load, want.max_level.tokens) << name;
    EXPECT_EQ(got.lower_bound, bound.tokens) << name;
    const bool has_one_speed = std::ranges::all_of(
        placement_.rank_speed, [&](double its) { return its == placement_.speed(0); });
    EXPECT_EQ(got.max_load_rank, has_one_speed ? -1 : want.max_level.rank) << name;
    EXPECT_EQ(got.lower_bound_rank, has_one_speed ? -1 : bound.rank) << name;
    EXPECT_EQ(got.copies, want.copies) << name;
    EXPECT_EQ(got.max_sent, want.max_sent) << name;
    EXPECT_EQ(got.max_received, want.max_received) << name;
    if (cost_.us_per_token == 0) return;
    const auto time_of = [&](std::int32_t tokens, std::int32_t rank) {
      return tokens * cost_.us_per_token / placement_.speed(std::max(0, rank));
    };
    EXPECT_NEAR(want.saved_us,
                time_of(got.max_load_without_copies, got.max_load_without_copies_rank) -
                    time_of(got.max_load, got.max_load_rank),
                1e-9 * (1 + want.saved_us))
        << name;
  }

  void expect_equal(const std::vector<Load>& load, const std::string& name) {
    set_load(load);
    launch();
    expect(load, name);
  }

 private:
  Replicator cpu_;
  DeviceReplicator device_;
  Placement placement_;
  CopyCost cost_;
  device::Stream stream_;
  DeviceVector<std::int32_t> load_, slot_expert_, slot_source_, physical_load_, rank_load_,
      in_proof_;
  DeviceVector<ReplicationSummary> summary_;
};

/// A cost by which a copy takes as long as that many tokens.
CopyCost cost_of(double tokens) {
  return {.us_per_token = 0.125, .expert_bytes = 1 + 50e3 * tokens, .gigabytes_per_s = 400};
}

/// Experts in order, without static replicas.
Placement homes_of(Index num_ranks, Index num_experts) {
  std::vector<Index> map(static_cast<std::size_t>(num_experts));
  for (std::size_t i = 0; i < map.size(); ++i) map[i] = static_cast<Index>(i);
  return make_placement(num_ranks, num_experts, map);
}
Placement homes_of(const Placement& placement) {
  return homes_of(placement.num_ranks, placement.num_logical_experts);
}

TEST_F(DeviceReplicatorCuda, EqualsCpuOnWorkloads) {
  for (const char* const shape :
       {"cube8x2", "mild:cube8x2", "skew:cube8x2", "mild:hypercube16x2", "skew:EP32+32",
        "mild:EP64+64", "skew:EP64+64", "EP72+144", "EP128+128"}) {
    const testing::Workload workload = testing::make_workload(shape, 100);
    const Placement homes = homes_of(workload.placement);
    for (const Placement* const placement : {&homes, &workload.placement}) {
      for (const double target : {1.0, 1.05, 0.0}) {
        ReplicateOptions options{.target = std::max(1.0, target)};
        if (target == 0) options.cost = cost_of(1600);
        Twins twins(*placement, options);
        for (const auto& load : workload.loads) twins.expect_equal(load, shape);
        if (HasFailure()) return;
      }
    }
  }
}

TEST_F(DeviceReplicatorCuda, EqualsCpuOnRandomInstances) {
  SplitMix64 random(1);
  testing::RandomLimits limits;
  limits.speeds = false;
  for (std::uint64_t seed = 0; seed < 3000; ++seed) {
    limits.max_ranks = seed % 11 == 0 ? 120 : seed % 5 == 0 ? 40 : 12;
    limits.max_slots_per_rank = seed % 3 == 0 && seed % 11 != 0 ? 40 : 4;
    limits.max_load = seed % 4 == 0 ? 5 : seed % 7 == 1 ? 1'000'000 : 1000;
    const Instance instance = testing::random_instance(seed, limits);
    ReplicateOptions options;
    options.dynamic_slots = 1 + random.below(seed % 2 == 0 ? 1 : kMaxDynamicSlots);
    options.target = seed % 3 == 1 ? 1 + 0.2 * random.unit() : 1;
    options.min_tokens = seed % 4 == 1 ? 1 + random.below(100) : 1;
    if (seed % 5 == 2)
      options.cost = cost_of(0.1 * static_cast<double>(random.below(10) * limits.max_load));
    Twins(instance.placement, options).expect_equal(instance.load, instance.name);
    if (HasFailure()) return;
  }
}

TEST_F(DeviceReplicatorCuda, EqualsCpuWithSpeedsAndDomains) {
  SplitMix64 random(11);
  for (std::uint64_t seed = 0; seed < 1500; ++seed) {
    testing::RandomLimits limits;
    limits.max_ranks = seed % 17 == 3 ? 120 : seed % 5 == 0 ? 40 : 12;
    limits.max_slots_per_rank = seed % 7 == 2 && seed % 17 != 3 ? 40 : 4;
    limits.max_load = seed % 4 == 0 ? 5 : seed % 7 == 1 ? 1'000'000 : 1000;
    ReplicateOptions options;
    const Instance instance = testing::general_instance(seed, limits, random, options);
    if (seed % 9 == 2) {
      options.cost = cost_of(0.1 * static_cast<double>(random.below(10) * limits.max_load));
    }
    Twins(instance.placement, options).expect_equal(instance.load, instance.name);
    if (HasFailure()) return;
  }
}

TEST_F(DeviceReplicatorCuda, EqualsCpuOnWorkloadsWithSpeedsAndDomains) {
  for (const char* const shape : {"cube8x2", "skew:EP32+32", "EP64+64", "EP128+128"}) {
    testing::Workload workload = testing::make_workload(shape, 5);
    Placement& p = workload.placement;
    for (const Index domains : {1, 2, 8}) {
      p.rank_speed.assign(static_cast<std::size_t>(p.num_ranks), 1.0);
      if (domains != 8) p.rank_speed[1] = 0.7;
      Twins twins(p, {.num_domains = domains});
      for (const auto& load : workload.loads) twins.expect_equal(load, shape);
      if (HasFailure()) return;
    }
  }
}

TEST_F(DeviceReplicatorCuda, EqualsCpuOnFewHeavyExperts) {
  // Levels must be searched for, and the exact split follows.
  SplitMix64 random(7);
  for (std::uint64_t seed = 0; seed < 100; ++seed) {
    const Index ranks = 2 + random.below(seed % 9 == 0 ? 100 : 14);
    const Index each = 1 + random.below(6);
    Twins twins(homes_of(ranks, ranks * each), {.dynamic_slots = 1 + random.below(2)});
    for (int batch = 0; batch < 20; ++batch) {
      std::vector<Load> load;
      for (Index e = 0; e < ranks * each; ++e) {
        load.push_back(random.between(0, Load{1} << random.below(14)));
      }
      twins.expect_equal(load, "seed " + std::to_string(seed));
    }
    if (HasFailure()) return;
  }
}

TEST_F(DeviceReplicatorCuda, IsCapturedAndFollowsThePlacement) {
  const testing::Workload workload = testing::make_workload("skew:cube8x2", 4);
  const Placement homes = homes_of(workload.placement);
  Twins twins(homes);
  twins.set_load(workload.loads[0]);
  testing::CapturedGraph graph(twins.stream());
  twins.launch();
  EXPECT_THROW(twins.device().update_placement(twins.stream(), homes), ArgumentError);
  graph.end();
  for (const auto& load : workload.loads) {
    twins.set_load(load);
    graph.replay();
    twins.expect(load, "replay");
  }
  std::vector<Index> map = homes.physical_to_logical;
  std::reverse(map.begin(), map.end());
  twins.follow(make_placement(8, homes.num_logical_experts, map), {});
  graph.replay();
  twins.expect(workload.loads.back(), "another placement");
}

TEST_F(DeviceReplicatorCuda, RefusesBadLoads) {
  const Placement homes = make_placement(2, 4, std::vector<Index>{0, 1, 2, 3});
  Twins twins(homes);
  for (const std::vector<Load>& load :
       {std::vector<Load>{-1, 2, 3, 4}, std::vector<Load>{INT32_MAX, 1, 0, 0}}) {
    twins.set_load(load);
    twins.launch();
    LPLB_CUDA_CHECK(cudaStreamSynchronize(twins.stream()));
    EXPECT_EQ(twins.summary().status, ReplicationStatus::kRefused);
  }
  twins.expect_equal({10, 0, 2, 0}, "the next batch");
}

TEST_F(DeviceReplicatorCuda, RefusesBadArguments) {
  const Placement homes = make_placement(2, 4, std::vector<Index>{0, 1, 2, 3});
  EXPECT_THROW(DeviceReplicator(homes, {.dynamic_slots = 9}), ArgumentError);
  EXPECT_THROW(DeviceReplicator(homes, {.num_domains = 3}), ArgumentError);
  ReplicateOptions with_cost;
  with_cost.cost = {.us_per_token = 1, .expert_bytes = 0, .gigabytes_per_s = 1};
  EXPECT_THROW(DeviceReplicator(homes, with_cost), ArgumentError);
  EXPECT_THROW(DeviceReplicator(homes_of(200, 200)), ArgumentError);
  DeviceReplicator replicator(homes);
  EXPECT_THROW(replicator.run(nullptr, nullptr, {}), ArgumentError);
  EXPECT_THROW(replicator.update_placement(nullptr, homes_of(4, 4)), ArgumentError);
  // The first placement decides whether speeds may differ.
  const Placement uneven =
      make_placement(2, 4, std::vector<Index>{0, 1, 2, 3}, {.rank_speed = {1, 2}});
  EXPECT_THROW(replicator.update_placement(nullptr, uneven), ArgumentError);
  Twins twins(uneven);
  twins.expect_equal({10, 0, 2, 0}, "uneven");
  twins.follow(homes, {});
  twins.expect_equal({10, 0, 2, 0}, "even");
}

}  // namespace
}  // namespace lplb
