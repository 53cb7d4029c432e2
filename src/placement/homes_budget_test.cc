// SPDX-License-Identifier: MIT
#include "placement/homes_budget.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <random>

namespace lplb::placement {
namespace {

using Layers = std::vector<std::vector<StepChoice>>;

struct Sum {
  std::int64_t value = 0;
  std::int64_t moves = 0;
};

Sum sum_of(const Layers& layers, const std::vector<std::size_t>& count) {
  Sum sum;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    if (count[i] == 0) continue;
    sum.value += layers[i][count[i] - 1].value;
    sum.moves += layers[i][count[i] - 1].moves;
  }
  return sum;
}

/// The least value of all ways to take steps of each layer.
std::int64_t least_value(const Layers& layers, std::int64_t max_moves) {
  std::vector<std::size_t> count(layers.size(), 0);
  std::int64_t least = 0;
  for (;;) {
    const Sum sum = sum_of(layers, count);
    if (sum.moves <= max_moves) least = std::min(least, sum.value);
    std::size_t i = 0;
    while (i < layers.size() && count[i] == layers[i].size()) count[i++] = 0;
    if (i == layers.size()) return least;
    ++count[i];
  }
}

Layers random_layers(std::mt19937& random) {
  Layers layers(1 + random() % 4);
  for (auto& steps : layers) {
    StepChoice now;
    for (std::size_t left = random() % 6; left > 0; --left) {
      now.value -= static_cast<std::int64_t>(random() % 20);
      now.moves =
          std::max<std::int64_t>(0, now.moves + static_cast<std::int64_t>(random() % 4) - 1);
      steps.push_back(now);
    }
  }
  return layers;
}

TEST(ChooseSteps, NoOtherStepsAreBetter) {
  std::mt19937 random(1);
  for (int round = 0; round < 500; ++round) {
    const Layers layers = random_layers(random);
    std::int64_t last = 0;
    for (std::int64_t max_moves = 0; max_moves < 12; ++max_moves) {
      const Sum sum = sum_of(layers, choose_steps(layers, max_moves));
      ASSERT_LE(sum.moves, max_moves);
      ASSERT_EQ(sum.value, least_value(layers, max_moves));
      ASSERT_LE(sum.value, last);
      last = sum.value;
    }
  }
}

TEST(ChooseSteps, TakesAllIfMovesDoNotMatter) {
  const Layers layers = {{{.moves = 2, .value = -5}, {.moves = 1, .value = -7}}, {}};
  EXPECT_EQ(choose_steps(layers, std::numeric_limits<std::int64_t>::max()),
            (std::vector<std::size_t>{2, 0}));
  EXPECT_EQ(choose_steps(layers, 0), (std::vector<std::size_t>{0, 0}));
}

TEST(TimeShares, EachLayerGetsItsPartOfWhatIsLeft) {
  const auto seconds_to = [](SearchClock::time_point end) {
    return std::chrono::duration<double>(end - SearchClock::now()).count();
  };
  TimeShares shares(1000, 4, 2);
  // 2 of 4 layers run at once, so each has half of the time; the others begin early here.
  EXPECT_NEAR(seconds_to(shares.next()), 500, 10);
  EXPECT_NEAR(seconds_to(shares.next()), 667, 10);
  EXPECT_NEAR(seconds_to(shares.next()), 1000, 10);
  EXPECT_NEAR(seconds_to(shares.next()), 1000, 10);
  for (const double long_time : {std::numeric_limits<double>::infinity(), 1e300}) {
    EXPECT_EQ(TimeShares(long_time, 1, 1).next(), SearchClock::time_point::max());
  }
  const SearchClock::time_point end = TimeShares(0, 1, 1).next();
  EXPECT_LE(end, SearchClock::now());
}

}  // namespace
}  // namespace lplb::placement
