// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <cstring>
#include <numeric>

#include "support/emulated_block.h"
#include "support/instances.h"
#include "support/repetitions.h"

// NOTE: these come after the emulation, because they are compiled with it.
#include "lplb/replicate.h"
#include "replicate/device/choose.cuh"
#include "replicate/device/copies_test_support.h"
#include "replicate/device/general.cuh"

// Runs the kernel that chooses copies on the CPU, and compares every integer with Replicator.
// device_replicator_test.cc has more instances, on a GPU.
namespace lplb::replicas {
namespace {

using testing::Instance;
using testing::SplitMix64;

constexpr std::uint64_t kRandomInstances = testing::repetitions(250, 12);
constexpr int kBatches = testing::repetitions(12, 1);
constexpr int kSharedBytes = 227 * 1024;

/// One placement and its options, in the memory that a block would have.
class Emulator {
 public:
  Emulator(const Placement& placement, const ReplicateOptions& options,
           int most_bytes = kSharedBytes)
      : Emulator(placement, options, copy_sizes(placement, options), most_bytes) {}
  Emulator(const Placement& placement, const ReplicateOptions& options, const CopySizes& sizes,
           int most_bytes)
      : args_(copy_args(sizes, options, make_copy_tables(sizes), most_bytes)),
        placement_(placement) {
    write_copy_image(placement, args_.sizes, args_.layout, image_);
    args_.image = image_.data();
    memory_.resize(static_cast<std::size_t>(args_.layout.bytes) / sizeof(uint4) + 1);
  }

  const CopyArgs& args() const { return args_; }
  const CopyLayout& layout() const { return args_.layout; }
  /// The time that a load takes; `rank` as in a summary.
  double time_of(std::int32_t tokens, std::int32_t rank) const {
    return tokens / placement_.speed(std::max(0, rank));
  }
  bool has_one_speed() const {
    return std::ranges::all_of(placement_.rank_speed,
                               [&](double its) { return its == placement_.speed(0); });
  }

  struct Result {
    std::vector<std::int32_t> slot_expert, slot_source, physical_load, rank_load, in_proof;
    ReplicationSummary summary;
  };

  Result run(const std::vector<Load>& load) {
    const std::vector<std::int32_t> narrow(load.begin(), load.end());
    const auto ranks = static_cast<std::size_t>(args_.sizes.num_ranks);
    const auto dynamic = static_cast<std::size_t>(args_.sizes.num_dynamic());
    constexpr std::int32_t kJunk = 0x5A5A5A5A;
    Result r{std::vector<std::int32_t>(dynamic, kJunk),
             std::vector<std::int32_t>(dynamic, kJunk),
             std::vector<std::int32_t>(dynamic + static_cast<std::size_t>(args_.sizes.num_main()),
                                       kJunk),
             std::vector<std::int32_t>(ranks, kJunk),
             std::vector<std::int32_t>(ranks, kJunk),
             {}};
    CopyArgs args = args_;
    args.load = narrow.data();
    args.out = {.slot_expert = r.slot_expert.data(),
                .slot_source = r.slot_source.data(),
                .physical_load = r.physical_load.data(),
                .rank_load = r.rank_load.data(),
                .in_proof = r.in_proof.data(),
                .summary = &r.summary};
    // NOTE: the memory holds junk, because a kernel's memory does.
    std::memset(static_cast<void*>(memory_.data()), 0x5A, memory_.size() * sizeof(uint4));
    auto* const memory = reinterpret_cast<unsigned char*>(memory_.data());
    emulated::run_block(kCopyThreads, [&] {
      if (args_.sizes.is_general()) return GeneralBatch(args, memory).run();
      switch (args_.sizes.rank_words()) {
        case 1:
          return CopyChoice<1>(args, memory).run();
        case 2:
          return CopyChoice<2>(args, memory).run();
        default:
          return CopyChoice<4>(args, memory).run();
      }
    });
    return r;
  }

 private:
  CopyArgs args_;
  Placement placement_;
  std::vector<unsigned char> image_;
  std::vector<uint4> memory_;
};

/// What the batches of a test led to, so that it can say whether it has seen everything.
struct Seen {
  int optimal = 0, bounded = 0, without_copies = 0, paid = 0;
};

/// A cost by which a copy takes as long as up to `most_tokens` tokens.
CopyCost random_cost(SplitMix64& random, Load most_tokens) {
  CopyCost cost{.us_per_token = 0.125 + random.unit(), .gigabytes_per_s = 1 + random.unit()};
  const double copy_us = static_cast<double>(1 + random.below(static_cast<Index>(most_tokens)));
  cost.expert_bytes = copy_us * cost.us_per_token * cost.gigabytes_per_s * 1e3;
  cost.hidden_us = random.below(2) * random.below(3) * copy_us * cost.us_per_token;
  return cost;
}

void expect_equal(Emulator& emulator, Replicator& replicator, const std::vector<Load>& load,
                  const std::string& name, Seen* seen = nullptr) {
  Replication cpu;
  replicator.run(load, cpu);
  const Emulator::Result got = emulator.run(load);
  const auto wide = [](const std::vector<std::int32_t>& v) {
    return std::vector<Load>(v.begin(), v.end());
  };
  ASSERT_EQ(got.slot_expert, cpu.slot_expert) << name;
  ASSERT_EQ(got.slot_source, cpu.slot_source) << name;
  ASSERT_EQ(wide(got.physical_load), cpu.physical_load) << name;
  ASSERT_EQ(wide(got.rank_load), cpu.rank_load) << name;
  std::vector<std::int32_t> in_proof(got.in_proof.size(), 0);
  for (const Index g : cpu.bottleneck_ranks) in_proof[static_cast<std::size_t>(g)] = 1;
  ASSERT_EQ(got.in_proof, in_proof) << name;
  ASSERT_EQ(got.summary.status == ReplicationStatus::kOptimal, cpu.status == SolveStatus::kOptimal)
      << name;
  const Level bound = cpu.status == SolveStatus::kOptimal ? cpu.max_level : cpu.bound_level;
  ASSERT_EQ(got.summary.max_load, cpu.max_level.tokens) << name;
  ASSERT_EQ(got.summary.lower_bound, bound.tokens) << name;
  const bool has_one_speed = emulator.has_one_speed();
  ASSERT_EQ(got.summary.max_load_rank, has_one_speed ? -1 : cpu.max_level.rank) << name;
  ASSERT_EQ(got.summary.lower_bound_rank, has_one_speed ? -1 : bound.rank) << name;
  ASSERT_EQ(got.summary.copies, cpu.copies) << name;
  ASSERT_EQ(got.summary.max_sent, cpu.max_sent) << name;
  ASSERT_EQ(got.summary.max_received, cpu.max_received) << name;
  const CopyCost& cost = emulator.args().cost;
  if (cost.us_per_token > 0) {
    const ReplicationSummary& s = got.summary;
    const double saved =
        (emulator.time_of(s.max_load_without_copies, s.max_load_without_copies_rank) -
         emulator.time_of(s.max_load, s.max_load_rank)) *
        cost.us_per_token;
    ASSERT_NEAR(saved, cpu.saved_us, 1e-9 * (1 + saved)) << name;
    ASSERT_LE(cpu.exposed_us, cpu.saved_us) << name;
    if (seen != nullptr) seen->paid += cpu.copies > 0 ? 1 : 0;
  }
  if (seen == nullptr) return;
  (cpu.status == SolveStatus::kOptimal ? seen->optimal : seen->bounded) += 1;
  seen->without_copies += cpu.copies == 0 ? 1 : 0;
}

void expect_equal(const Instance& instance, const ReplicateOptions& options, int most_bytes,
                  Seen* seen) {
  Emulator emulator(instance.placement, options, most_bytes);
  Replicator replicator(instance.placement, options);
  expect_equal(emulator, replicator, instance.load, instance.name, seen);
}

TEST(EmulatedCopies, EqualCpuOnRandomInstances) {
  testing::RandomLimits limits;
  limits.speeds = false;
  Seen seen;
  SplitMix64 random(1);
  for (std::uint64_t seed = 0; seed < kRandomInstances; ++seed) {
    limits.max_ranks = seed % 11 == 0 ? 90 : seed % 5 == 0 ? 40 : 12;
    limits.max_slots_per_rank = seed % 3 == 0 ? 40 : 4;
    limits.max_load = seed % 4 == 0 ? 5 : seed % 7 == 1 ? 1'000'000 : 1000;
    const Instance instance = testing::random_instance(seed, limits);
    ReplicateOptions options;
    testing::draw_options(seed, random, options);
    if (seed % 15 == 2) options.cost = random_cost(random, limits.max_load / 4 + 1);
    // A block with little memory makes fewer attempts side by side.
    const int most_bytes = seed % 2 == 0 ? kSharedBytes : 1;
    expect_equal(instance, options, most_bytes, &seen);
    if (::testing::Test::HasFatalFailure()) return;
  }
  EXPECT_GT(seen.optimal, 0);
  EXPECT_GT(seen.bounded, 0);
  EXPECT_GT(seen.without_copies, 0);
  EXPECT_GE(seen.paid, static_cast<int>(kRandomInstances / 100));
}

TEST(EmulatedCopies, EqualCpuWithSpeedsAndDomains) {
  Seen seen;
  int with_speeds = 0;
  int with_domains = 0;
  SplitMix64 random(11);
  for (std::uint64_t seed = 0; seed < kRandomInstances; ++seed) {
    testing::RandomLimits limits;
    limits.max_ranks = seed % 17 == 13 ? 70 : seed % 5 == 0 ? 40 : 12;
    limits.max_slots_per_rank = seed % 7 == 2 ? 40 : 4;
    limits.max_load = seed % 4 == 0 ? 5 : seed % 7 == 1 ? 1'000'000 : 1000;
    ReplicateOptions options;
    const Instance instance = testing::general_instance(seed, limits, random, options);
    if (seed % 9 == 2) options.cost = random_cost(random, limits.max_load / 4 + 1);
    expect_equal(instance, options, seed % 2 == 0 ? kSharedBytes : 1, &seen);
    if (::testing::Test::HasFatalFailure()) return;
    with_domains += options.num_domains > 1 ? 1 : 0;
    with_speeds += copy_sizes(instance.placement, {}).is_general() ? 1 : 0;
  }
  EXPECT_GT(seen.optimal, 0);
  EXPECT_GT(seen.bounded, 0);
  EXPECT_GT(seen.without_copies, 0);
  EXPECT_GT(with_speeds, 0);
  EXPECT_GT(with_domains, 0);
}

TEST(EmulatedCopies, EqualCpuOnHomesWithFewExperts) {
  // Few heavy experts for each rank: levels must be searched for, and the exact split follows.
  SplitMix64 random(7);
  Seen seen;
  for (std::uint64_t seed = 0; seed < kRandomInstances; ++seed) {
    const Index ranks = 2 + random.below(seed % 9 == 0 ? 70 : 10);
    // Few, more, and more than lanes: a warp looks through the slots of a rank in three ways.
    const Index each = 1 + random.below(seed % 13 == 0 ? 45 : 8);
    std::vector<Index> map(static_cast<std::size_t>(ranks * each));
    for (std::size_t i = 0; i < map.size(); ++i) map[i] = static_cast<Index>(i);
    std::vector<Load> load;
    for (std::size_t i = 0; i < map.size(); ++i) {
      const Load size = Load{1} << random.below(12);
      load.push_back(random.between(0, size * (seed % 2 == 0 ? 1 : 37)));
    }
    if (seed % 8 == 4) {  // too many tokens for keys
      const Load sum = std::accumulate(load.begin(), load.end(), Load{1});
      for (Load& tokens : load) tokens *= INT32_MAX / sum;
    }
    ReplicateOptions options;
    options.dynamic_slots = 1 + random.below(2);
    options.min_tokens = seed % 5 == 0 ? 20 : 1;
    options.target = seed % 7 == 0 ? 1.05 : 1;
    PlacementOptions speeds;
    if (seed % 4 == 3) speeds.rank_speed.assign(static_cast<std::size_t>(ranks), 3.0);
    if (seed % 18 == 1) options.cost = random_cost(random, 300);
    const Instance instance{"homes " + std::to_string(seed),
                            make_placement(ranks, ranks * each, map, speeds), load};
    expect_equal(instance, options, seed % 3 == 0 ? 1 : kSharedBytes, &seen);
    if (::testing::Test::HasFatalFailure()) return;
  }
  EXPECT_GT(seen.optimal, 0);
  EXPECT_GT(seen.bounded, 0);
  EXPECT_GE(seen.paid, static_cast<int>(kRandomInstances / 100));
}

TEST(EmulatedCopies, EqualCpuOnAdversarialInstances) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP() << "takes minutes under ThreadSanitizer";
#endif
  int taken = 0;
  for (const Instance& instance : testing::adversarial_instances()) {
    const Placement& p = instance.placement;
    if (p.num_ranks > kMaxCopyRanks) continue;
    Load total = 0;
    for (const Load load : instance.load) total += std::min(load, Load{1} << 40);
    if (total > INT32_MAX) continue;
    ++taken;
    for (const Index slots : {1, 3}) {
      expect_equal(instance, {.dynamic_slots = slots}, kSharedBytes, nullptr);
      if (HasFatalFailure()) return;
    }
  }
  EXPECT_GE(taken, 20);
}

TEST(EmulatedCopies, EqualCpuOnWorkloads) {
  for (const char* const shape :
       {"cube8x2", "mild:hypercube16x2", "skew:EP32+32", "skew:EP64+64", "EP128+128"}) {
    const testing::Workload workload = testing::make_workload(shape, kBatches);
    const Placement& p = workload.placement;
    std::vector<Index> map(static_cast<std::size_t>(p.num_logical_experts));
    for (std::size_t i = 0; i < map.size(); ++i) map[i] = static_cast<Index>(i);
    const Placement homes = make_placement(p.num_ranks, p.num_logical_experts, map);
    for (const Placement* placement : {&homes, &p}) {
      Emulator emulator(*placement, {});
      Replicator replicator(*placement);
      EXPECT_EQ(emulator.layout().num_attempts, kMostAttempts) << shape;
      EXPECT_LE(emulator.layout().bytes, kSharedBytes) << shape;
      for (std::size_t i = 0; i < workload.loads.size(); i += placement == &p ? 4 : 1) {
        expect_equal(emulator, replicator, workload.loads[i], shape);
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST(EmulatedCopies, RefuseBadLoads) {
  const Placement homes = make_placement(2, 4, std::vector<Index>{0, 1, 2, 3});
  Emulator emulator(homes, {.dynamic_slots = 2});
  for (const std::vector<Load>& load :
       {std::vector<Load>{-1, 2, 3, 4}, {INT32_MAX, 1, 0, 0}, {INT32_MIN, 0, 0, 0}}) {
    const Emulator::Result r = emulator.run(load);
    EXPECT_EQ(r.summary.status, ReplicationStatus::kRefused);
    EXPECT_EQ(r.slot_expert, std::vector<std::int32_t>(4, -1));
    EXPECT_EQ(r.slot_source, std::vector<std::int32_t>(4, -1));
    EXPECT_EQ(r.physical_load, std::vector<std::int32_t>(8, 0));
    EXPECT_EQ(r.rank_load, std::vector<std::int32_t>(2, 0));
    EXPECT_EQ(r.in_proof, std::vector<std::int32_t>(2, 0));
  }
  EXPECT_EQ(emulator.run({INT32_MAX, 0, 0, 0}).summary.max_load, 1 << 30);
}

}  // namespace
}  // namespace lplb::replicas
