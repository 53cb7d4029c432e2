// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "lplb/backend.h"
#include "lplb/homes.h"
#include "placement/homes_test_support.h"
#include "support/expect_refused.h"

// place_homes() on the device is compared with itself on the CPU: they are equal in every integer.
// kernel_test.cc runs the kernel on the CPU.
namespace lplb {
namespace {

class PlaceHomesCuda : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!cuda_support().missing.empty()) GTEST_SKIP() << "no GPU: " << cuda_support().missing;
  }
};

/// Loads, and what they are placed on.
struct Case {
  testing::LoadWindow window;
  Index ranks, slots;
};

Case random_case(std::mt19937& random, Index batches, Index layers, Index experts, Index ranks,
                 Index slots) {
  return {testing::random_window(random, batches, layers, experts), ranks, slots};
}

HomesPlacement place(const Case& c, HomesOptions options, Backend backend,
                     const std::vector<Placement>& from = {}) {
  options.backend = backend;
  return testing::place_window(c.window, c.ranks, c.slots, from, options);
}

void expect_equal(const HomesPlacement& a, const HomesPlacement& b) {
  EXPECT_EQ(a.maps.physical_to_logical, b.maps.physical_to_logical);
  EXPECT_EQ(a.maps.logical_to_physical, b.maps.logical_to_physical);
  EXPECT_EQ(a.judged, b.judged);
  EXPECT_EQ(a.judged_before, b.judged_before);
  EXPECT_EQ(a.imbalance, b.imbalance);
  EXPECT_EQ(a.moves, b.moves);
  EXPECT_EQ(a.trials, b.trials);
}

/// Places twice, the second time for other loads and from the first placement.
void expect_equal_cpu(std::mt19937& random, const Case& first, const HomesOptions& options) {
  const HomesPlacement cpu = place(first, options, Backend::kCpu);
  expect_equal(place(first, options, Backend::kCuda), cpu);
  const auto old = testing::layers_of(cpu, first.ranks, options);
  const Case next = random_case(random, first.window.batches, first.window.layers,
                                first.window.experts, first.ranks, first.slots);
  expect_equal(place(next, options, Backend::kCuda, old), place(next, options, Backend::kCpu, old));
}

TEST_F(PlaceHomesCuda, EqualCpu) {
  std::mt19937 random(1);
  for (const HomesOptions& options : {HomesOptions{},
                                      {.max_trials = 37},
                                      {.max_moves = 3},
                                      {.move_homes = true},
                                      {.restart = true, .batches_only = true},
                                      {.min_gain = 0, .pinned = {{0, 1}, {5, 0}}},
                                      {.rank_alive = {1, 1, 0, 1, 1, 1, 1, 1}}}) {
    expect_equal_cpu(random, random_case(random, 3, 6, 32, 8, 6), options);
  }
  for (const HomesOptions& options : {HomesOptions{}, {.max_moves = 20, .move_homes = true}}) {
    expect_equal_cpu(random, random_case(random, 8, 4, 256, 64, 5), options);
    expect_equal_cpu(random, random_case(random, 8, 3, 288, 72, 6), options);
    expect_equal_cpu(random, random_case(random, 8, 3, 256, 128, 3), options);
    expect_equal_cpu(random, random_case(random, 8, 3, 256, 8, 40), options);
    expect_equal_cpu(random, random_case(random, 1, 3, 64, 2, 33), options);
  }
}

/// More layers than the device searches at once; some without load.
TEST_F(PlaceHomesCuda, ManyLayers) {
  std::mt19937 random(2);
  Case c = random_case(random, 2, 700, 24, 8, 4);
  for (Index b = 0; b < 2; ++b) {
    for (Index e = 0; e < 24; ++e) c.window.loads[(b * 700 + 5) * 24 + e] = 0;
  }
  for (Index e = 0; e < 24; ++e) c.window.loads[6 * 24 + e] = 0;
  expect_equal_cpu(random, c, {.num_threads = 4, .max_trials = 200});
}

TEST_F(PlaceHomesCuda, EndsInTime) {
  std::mt19937 random(3);
  const Case c = random_case(random, 8, 2, 256, 64, 5);
  EXPECT_EQ(place(c, {.max_seconds = 0}, Backend::kCuda).trials, (std::vector<std::int64_t>{0, 0}));
  const HomesPlacement some = place(c, {.max_seconds = 0.003}, Backend::kCuda);
  for (Index i = 0; i < 2; ++i) {
    HomesOptions options{.max_trials = some.trials[i]};
    const HomesPlacement same = place(c, options, Backend::kCpu);
    EXPECT_EQ(some.judged[i], same.judged[i]);
  }
}

/// On every machine, before the device is looked for.
TEST(PlaceHomesBackend, RefusesWhatTheDeviceDoesNotSearch) {
  std::mt19937 random(5);
  const auto refused = [](const Case& c, const HomesOptions& options, const char* part) {
    testing::expect_refused([&] { place(c, options, Backend::kCuda); }, part);
  };
  const Case c = random_case(random, 2, 1, 16, 4, 5);
  refused(c, {.dynamic_slots = 1}, "backend: cuda does not search with dynamic slots");
  refused(c, {.max_bytes = 5, .expert_bytes = 1}, "backend: cuda does not search with a limit");
  refused(c, {.rank_speed = {1, 1, 2, 1}}, "backend: cuda does not search with unequal speeds");
  refused(random_case(random, 1, 1, 256, 160, 2), {}, "at most 128 live ranks and 2048 slots");
  refused(random_case(random, 1, 1, 256, 32, 65), {}, "of them, not 32 and 2080");
  refused(c, {.max_trials = -1}, "max_trials");
  HomesOptions even;  // equal speeds are none, and a dead rank does not count
  even.rank_speed = {2, 2, 2, 2};
  even.rank_alive = {1, 1, 1, 1};
  if (cuda_support().missing.empty()) {
    EXPECT_NO_THROW(place(c, even, Backend::kCuda));
  } else {
    EXPECT_THROW(place(c, even, Backend::kCuda), CudaError);
  }
}

TEST_F(PlaceHomesCuda, RefusesMoreBatchesThanABlockHolds) {
  std::mt19937 random(4);
  const Case c = random_case(random, 60, 1, 256, 64, 5);
  testing::expect_refused([&] { place(c, {}, Backend::kCuda); }, "backend: cuda needs");
}

}  // namespace
}  // namespace lplb
