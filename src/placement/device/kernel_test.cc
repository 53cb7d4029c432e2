// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <tuple>

#include "support/emulated_block.h"

// NOTE: these come after the emulation, because they are compiled with it.
#include "placement/device/jobs.h"
#include "placement/device/search.cuh"

// Runs the search of the device on the CPU, and compares every integer with HomesSearch and
// WindowJudge. device_search_test.cc has larger instances, on a GPU.
namespace lplb::placement {
namespace {

#ifdef __SANITIZE_THREAD__  // threads of the system: a thousand times slower than fibers
constexpr int kRounds = 3;
constexpr int kLayers = 1;
constexpr int kMostTrials = 3;
#else
constexpr int kRounds = 36;
constexpr int kLayers = 2;
constexpr int kMostTrials = 150;
#endif

/// One layer and what it is searched with.
struct Layer {
  HomesStart start;
  HomesWindow window;
  SearchLimits limits;
};

class Instances {
 public:
  explicit Instances(unsigned seed) : random_(seed) {}

  Index below(std::size_t n) { return static_cast<Index>(random_() % n); }

  HomesShape shape(Index ranks, Index homes, Index replicas) const {
    return {
        .num_ranks = ranks, .slots = homes + replicas, .num_logical = ranks * homes, .speed = {}};
  }

  Layer layer(const HomesShape& shape) {
    Layer layer;
    const auto experts = static_cast<std::size_t>(shape.num_logical);
    std::vector<double> mean;
    for (std::size_t e = 0; e < experts; ++e) {
      mean.push_back(static_cast<double>(below(100)) * static_cast<double>(below(100)));
    }
    std::vector<std::vector<double>> batches(1 + random_() % 4);
    const bool few_tokens = below(4) == 0;
    for (auto& batch : batches) {
      for (const double w : mean) {
        batch.push_back(few_tokens ? below(3) : w * static_cast<double>(50 + below(100)));
      }
      batch[0] += 1;
    }
    layer.window = make_window({batches.begin(), batches.end()}, shape.num_logical, below(2) == 0);
    std::vector<Index> live;
    for (Index g = 0; g < shape.num_ranks; ++g) live.push_back(g);
    HomesOptions options{.move_homes = below(2) == 0, .restart = below(2) == 0};
    if (below(2) == 0) options.pinned = {{0, 0}};
    const HomesStart first = start_of_homes(shape, live, layer.window.mean, nullptr, options);
    layer.start = first;
    if (below(2) == 0) {  // an old placement, with other replicas
      std::vector<Index> old = first.experts;
      for (Index p = 0; p < shape.num_slots(); ++p) {
        if (first.fixed[p] == kFree) old[p] = below(experts);
      }
      const Placement from = make_placement(shape.num_ranks, shape.num_logical, old);
      layer.start = start_of_homes(shape, live, layer.window.mean, &from, options);
    }
    const std::int64_t unit = layer.window.sum_of_weights() * kBatchLoad / shape.num_ranks;
    layer.limits = {.max_trials = below(3) == 0 ? below(8) : kMostTrials,
                    .max_moves = below(2) == 0 ? below(6) : kMaxPhysical,
                    .least_gain = std::max<std::int64_t>(1, unit / 20000),
                    .move_gain = below(2) == 0 ? unit / 3000 : 0,
                    .home_gain = below(2) == 0 ? unit / 1000 : 0,
                    .move_homes = options.move_homes};
    return layer;
  }

 private:
  std::mt19937 random_;
};

/// What the tests have seen.
struct Seen {
  std::int64_t trials = 0, steps = 0, exchanges = 0;
};

FoundLayer search_on_cpu(const HomesShape& shape, const Layer& layer, Seen& seen) {
  WindowJudge judge(shape, layer.window.load, layer.window.weight);
  judge.assign(layer.start.experts);
  FoundLayer found;
  found.value_of_start = judge.value();
  HomesSearch search(shape, layer.start, layer.limits, judge);
  found.trials = search.run();
  found.experts = judge.experts();
  found.value = judge.value();
  found.moves = search.steps().empty() ? search.moves_of_start() : search.steps().back().moves;
  seen.trials += found.trials;
  seen.steps += std::ssize(search.steps());
  for (const SearchStep& step : search.steps()) seen.exchanges += step.count == 2;
  return found;
}

std::vector<FoundLayer> emulate(const HomesShape& shape, const std::vector<Layer>& layers,
                                int num_warps, std::int64_t nanoseconds = -1) {
  std::vector<LayerJob> jobs;
  for (const Layer& layer : layers) jobs.push_back({&layer.start, &layer.window, layer.limits});
  const PackedJobs packed(shape, jobs, num_warps);
  SearchArgs args = packed.args();
  args.nanoseconds = nanoseconds;
  // NOTE: vectors of aligned types, because the kernel reads whole structures.
  std::vector<uint4> image(packed.image().size() / sizeof(uint4));
  std::memcpy(static_cast<void*>(image.data()), packed.image().data(), packed.image().size());
  std::vector<uint4> results(packed.result_bytes() / sizeof(uint4));
  std::vector<uint4> memory(static_cast<std::size_t>(args.at.bytes) / sizeof(uint4));
  // The memory holds junk, because a kernel's memory does.
  std::memset(static_cast<void*>(memory.data()), 0x5A, memory.size() * sizeof(uint4));
  std::vector<SearchCandidate> raw(static_cast<std::size_t>(args.most_candidates));
  std::vector<SearchCandidate> list(raw.size());
  std::vector<unsigned> found(packed.found_words());
  args.image = reinterpret_cast<const unsigned char*>(image.data());
  args.results = reinterpret_cast<unsigned char*>(results.data());
  args.raw = raw.data();
  args.list = list.data();
  args.found = found.data();
  auto* const block = reinterpret_cast<unsigned char*>(memory.data());
  emulated::run_block(num_warps * device::kWarpSize, [&] {
    if (args.sizes.rank_words() == 2) {
      LayerSearch<2>(args, block).run();
    } else {
      LayerSearch<4>(args, block).run();
    }
  });
  std::vector<unsigned char> bytes(packed.result_bytes());
  std::memcpy(bytes.data(), results.data(), bytes.size());
  return packed.unpack(bytes);
}

void expect_equal(const HomesShape& shape, const std::vector<Layer>& layers, int num_warps,
                  Seen& seen) {
  const std::vector<FoundLayer> found = emulate(shape, layers, num_warps);
  ASSERT_EQ(found.size(), layers.size());
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const FoundLayer cpu = search_on_cpu(shape, layers[i], seen);
    ASSERT_EQ(found[i].value_of_start, cpu.value_of_start);
    ASSERT_EQ(found[i].trials, cpu.trials);
    ASSERT_EQ(found[i].value, cpu.value);
    ASSERT_EQ(found[i].moves, cpu.moves);
    ASSERT_EQ(found[i].experts, cpu.experts);
    // A judge that has not seen the search agrees.
    WindowJudge judge(shape, layers[i].window.load, layers[i].window.weight);
    judge.assign(found[i].experts);
    ASSERT_EQ(judge.value(), found[i].value);
  }
}

TEST(EmulatedSearch, EqualCpuOnRandomLayers) {
  Instances random(3);
  Seen seen;
  for (int round = 0; round < kRounds; ++round) {
    const Index homes = 1 + random.below(4);
    const HomesShape shape = random.shape(std::max<Index>(2, 6 / homes) + random.below(9), homes,
                                          1 + random.below(static_cast<std::size_t>(homes)));
    std::vector<Layer> layers;
    for (Index i = random.below(3); i >= 0; --i) layers.push_back(random.layer(shape));
    expect_equal(shape, layers, 1 + random.below(4), seen);
    if (::testing::Test::HasFatalFailure()) FAIL() << "round " << round;
  }
  if (kRounds < 10) return;
  EXPECT_GT(seen.trials, 700);
  EXPECT_GT(seen.steps, 150);
  EXPECT_GT(seen.exchanges, 15);
}

/// More trials than a judge keeps cuts; ranks in four words, and slots of a rank for two rows of
/// lanes.
TEST(EmulatedSearch, EqualCpuOnLargeLayers) {
  Instances random(4);
  Seen seen;
  for (const auto& [ranks, homes, replicas] :
       {std::tuple{40, 2, 1}, {70, 1, 1}, {3, 36, 4}, {24, 4, 2}}) {
    if (kRounds < 10 && ranks != 24) continue;
    const HomesShape shape = random.shape(ranks, homes, replicas);
    std::vector<Layer> layers;
    for (int i = 0; i < kLayers; ++i) {
      layers.push_back(random.layer(shape));
      layers.back().limits.max_trials = ranks == 24 ? kMostTrials : kMostTrials / 4;
    }
    expect_equal(shape, layers, 4, seen);
    if (::testing::Test::HasFatalFailure()) FAIL() << ranks << " ranks";
  }
  if (kRounds < 10) return;
  EXPECT_GT(seen.trials, 60);
}

TEST(EmulatedSearch, EndsWhenTimeIsOver) {
  Instances random(5);
  const HomesShape shape = random.shape(8, 3, 1);
  Seen seen;
  Layer layer = random.layer(shape);
  while (search_on_cpu(shape, layer, seen).trials < 20) layer = random.layer(shape);
  EXPECT_EQ(emulate(shape, {layer}, 2, 0)[0].trials, 0);
  // A search that time ended does what one with as many trials does.
  const FoundLayer some = emulate(shape, {layer}, 2, 20'000'000)[0];
  layer.limits.max_trials = some.trials;
  const FoundLayer same = search_on_cpu(shape, layer, seen);
  EXPECT_EQ(some.experts, same.experts);
  EXPECT_EQ(some.value, same.value);
}

}  // namespace
}  // namespace lplb::placement
