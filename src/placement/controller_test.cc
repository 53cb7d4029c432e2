// SPDX-License-Identifier: MIT
#include "lplb/controller.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "lplb/homes.h"
#include "lplb/solver.h"
#include "support/expect_refused.h"

namespace lplb {
namespace {

using testing::expect_refused;

constexpr Index kRanks = 8;
constexpr Index kExperts = 32;
constexpr Index kSlots = 40;

Placement contiguous() {
  std::vector<Index> slots;
  for (Index g = 0; g < kRanks; ++g) {
    for (Index i = 0; i < kSlots / kRanks; ++i) slots.push_back((g * 4 + i) % kExperts);
  }
  return make_placement(kRanks, kExperts, slots);
}

/// The tokens of each expert; the four experts from `hot` on have many.
std::vector<double> skewed(Index hot) {
  std::vector<double> weight(kExperts, 100);
  for (Index i = 0; i < 4; ++i) weight[(hot + i) % kExperts] = 1500 - 200 * i;
  return weight;
}

std::vector<Load> noisy(const std::vector<double>& weight, double sigma, std::mt19937& random) {
  std::normal_distribution<double> noise;
  std::vector<Load> load;
  for (const double w : weight) {
    load.push_back(static_cast<Load>(std::max(0.0, w * (1 + sigma * noise(random)))));
  }
  return load;
}

/// Adds a batch and decides; returns the decision, which is taken.
RebalanceDecision step(RebalanceController& controller, const std::vector<Load>& load) {
  controller.add(load);
  const RebalanceDecision decision = controller.decide();
  controller.adopt();
  return decision;
}

double slowest(const Placement& placement, const std::vector<Load>& load) {
  return solve(placement, load).max_load;
}

TEST(Controller, MovesWhatPaysAndNoMore) {
  std::mt19937 random(1);
  RebalanceController controller(contiguous(), {.window = 4, .round_cost = 500});
  const std::vector<double> weight = skewed(0);
  const Placement before = controller.placement();
  std::int64_t moves = 0;
  for (int batch = 0; batch < 50; ++batch) {
    const RebalanceDecision decision = step(controller, noisy(weight, 0.02, random));
    if (decision.kind == Rebalance::kKeep) continue;
    EXPECT_GT(decision.expected * decision.life, decision.price);
    EXPECT_EQ(decision.price, 500 * decision.rounds);
    moves += decision.moves;
  }
  const ControllerStats stats = controller.stats();
  EXPECT_GE(stats.rebalances, 1);
  EXPECT_LE(stats.rebalances, 3);
  EXPECT_EQ(stats.moves, moves);
  EXPECT_EQ(stats.decisions, 50);
  EXPECT_GT(stats.trust, 0.5);  // the gains came true
  const std::vector<Load> load = noisy(weight, 0.02, random);
  EXPECT_LT(slowest(controller.placement(), load), 0.9 * slowest(before, load));
}

TEST(Controller, MeasuresWhatTheLastRebalanceGains) {
  std::mt19937 random(2);
  RebalanceController controller(contiguous(), {.window = 1, .round_cost = 0});
  const Placement before = controller.placement();
  controller.add(noisy(skewed(0), 0, random));
  const RebalanceDecision decision = controller.decide();
  ASSERT_NE(decision.kind, Rebalance::kKeep);
  EXPECT_EQ(controller.stats().rebalances, 0);
  EXPECT_EQ(controller.placement(), before);  // until it is adopted
  const Placement next = controller.proposal();
  controller.adopt();
  EXPECT_EQ(controller.placement(), next);
  EXPECT_EQ(controller.stats().predicted, decision.gain);
  double gained = 0;
  for (int batch = 0; batch < 5; ++batch) {
    const std::vector<Load> load = noisy(skewed(batch), 0.1, random);
    gained += slowest(before, load) - slowest(next, load);
    controller.add(load);
    EXPECT_DOUBLE_EQ(controller.stats().measured, gained / (batch + 1));
  }
  EXPECT_EQ(controller.stats().age, 5);
  const double part = std::clamp(gained / 5 / decision.gain, -1.0, 1.0);
  EXPECT_DOUBLE_EQ(controller.stats().trust, (0.5 + part) / 2);
}

/// How many rebalances 100 batches with 2 % of noise lead to, from a placement made for them.
std::int64_t rebalances_by_noise(ControllerOptions options) {
  std::mt19937 random(3);
  const std::vector<double> weight = skewed(0);
  const ExpertMaps maps =
      options.even_split
          ? rebalance_experts(weight, 1, kExperts, kSlots, 1, 1, kRanks)
          : place_homes(weight, 1, 1, kExperts, kSlots, kRanks, {}, {.move_homes = true}).maps;
  options.round_cost = 0;
  RebalanceController controller(make_placement(kRanks, kExperts, maps.layer(0)), options);
  for (int batch = 0; batch < 100; ++batch) step(controller, noisy(weight, 0.02, random));
  return controller.stats().rebalances;
}

TEST(Controller, NoiseMovesNothing) {
  EXPECT_EQ(rebalances_by_noise({}), 0);
  EXPECT_EQ(rebalances_by_noise({.even_split = true}), 0);
  // The same loads do move experts if each gain is good enough.
  EXPECT_GT(rebalances_by_noise({.window = 1, .min_gain = 0, .even_split = true}), 0);
}

TEST(Controller, LearnsNotToTrustGainsThatDoNotLast) {
  std::mt19937 random(4);
  RebalanceController controller(contiguous(),
                                 {.window = 1, .round_cost = 400, .life = 8, .max_trials = 300});
  RebalanceDecision last;
  for (int batch = 0; batch < 80; ++batch) {
    last = step(controller, noisy(skewed(static_cast<Index>(random() % kExperts)), 0.1, random));
  }
  const ControllerStats stats = controller.stats();
  EXPECT_LT(stats.trust, 0.3);
  EXPECT_GT(last.gain, 1000);  // it would pay, if it lasted
  EXPECT_DOUBLE_EQ(last.expected, last.gain * stats.trust);
  EXPECT_LT(stats.rebalances, 40);
}

TEST(Controller, MovesThatCostMoreThanTheyWinAreNotMade) {
  std::mt19937 random(5);
  const std::vector<Load> load = noisy(skewed(0), 0, random);
  RebalanceController dear(contiguous(), {.window = 1, .round_cost = 1e9});
  EXPECT_EQ(step(dear, load).kind, Rebalance::kKeep);
  EXPECT_STREQ(dear.decide().reason, "not even a perfect placement would pay for a move");
  RebalanceController some(contiguous(), {.window = 1, .round_cost = 9000});
  const RebalanceDecision decision = step(some, load);
  EXPECT_EQ(decision.kind, Rebalance::kKeep);
  EXPECT_STREQ(decision.reason, "the moves would cost more than they win");
  EXPECT_LE(decision.expected * decision.life, decision.price);
  RebalanceController cheap(contiguous(), {.window = 1, .round_cost = 1});
  EXPECT_NE(step(cheap, load).kind, Rebalance::kKeep);
}

TEST(Controller, WaitsForBatches) {
  std::mt19937 random(11);
  RebalanceController controller(contiguous(), {.window = 8, .round_cost = 0});
  for (int batch = 0; batch < 2; ++batch) {
    EXPECT_EQ(controller.decide().kind, Rebalance::kKeep) << batch;
    controller.add(noisy(skewed(0), 0, random));
  }
  EXPECT_NE(controller.decide().kind, Rebalance::kKeep);
}

TEST(Controller, IdleBatchesChangeNothing) {
  std::mt19937 random(6);
  const ControllerOptions options{.window = 3, .round_cost = 10, .min_tokens = 500};
  RebalanceController one(contiguous(), options);
  RebalanceController other(contiguous(), options);
  const std::vector<Load> idle(kExperts, 1);
  for (int batch = 0; batch < 20; ++batch) {
    const std::vector<Load> load = noisy(skewed(batch / 5), 0.05, random);
    one.add(load);
    for (int i = 0; i < 3; ++i) other.add(idle);
    other.add(load);
    other.add(std::vector<Load>(kExperts, 0));
    EXPECT_EQ(one.decide().gain, other.decide().gain);
    EXPECT_EQ(one.proposal(), other.proposal());
    one.adopt();
    other.adopt();
  }
  EXPECT_EQ(other.stats().ignored, 80);
  EXPECT_EQ(other.stats().batches, 20);
  RebalanceController never(contiguous(), options);
  never.add(idle);
  EXPECT_FALSE(never.is_due());
  EXPECT_STREQ(never.decide().reason, "there were no batches");
}

TEST(Controller, PhasesAreNotMixed) {
  std::mt19937 random(7);
  RebalanceController controller(contiguous(), {.window = 2, .interval = 6, .num_phases = 2});
  std::vector<double> sum(2);
  for (int batch = 0; batch < 600; ++batch) {
    const Index phase = batch % 2;
    std::vector<double> weight = skewed(phase * 16);
    for (double& w : weight) w /= phase == 0 ? 1 : 100;
    const std::vector<Load> load = noisy(weight, 0.1, random);
    controller.add(load, phase);
    if (batch >= 596) sum[phase] += slowest(contiguous(), load) / 2;
    EXPECT_EQ(controller.is_due(), batch >= 5);
  }
  // Each phase has a window of its own, and half of the batches.
  EXPECT_NEAR(controller.decide().load, (sum[0] + sum[1]) / 2, 0.01 * sum[0]);
  EXPECT_FALSE(controller.is_due());
}

TEST(Controller, JudgesByTheSplitInUse) {
  std::mt19937 random(8);
  const std::vector<Load> load = noisy(skewed(0), 0.2, random);
  const Placement placement = contiguous();
  const double mean = static_cast<double>(std::accumulate(load.begin(), load.end(), Load{0})) / 8;

  RebalanceController even(placement, {.window = 1, .round_cost = 0, .even_split = true});
  const RebalanceDecision by_eplb = step(even, load);
  std::vector<double> real(load.begin(), load.end());
  EXPECT_NEAR(by_eplb.load, mean * even_imbalance(placement, real), 1);
  EXPECT_EQ(by_eplb.kind, Rebalance::kAll);
  EXPECT_NEAR(by_eplb.load - by_eplb.gain, mean * even_imbalance(even.placement(), real), 1);

  const CostModel cost(
      "us", {.rank = 5, .tokens = {128}, .cost = {20}, .then_every = 128, .then_cost = 15});
  RebalanceController timed(placement, {.window = 1, .round_cost = 0, .cost = cost});
  const RebalanceDecision by_cost = step(timed, load);
  EXPECT_DOUBLE_EQ(by_cost.load, solve(placement, load, {.cost = &cost}).cost.max_cost);
  ASSERT_NE(by_cost.kind, Rebalance::kKeep);
  EXPECT_NEAR(by_cost.load - by_cost.gain,
              solve(timed.placement(), load, {.cost = &cost}).cost.max_cost, 1e-9);
}

TEST(Controller, KeepsToItsLimits) {
  std::mt19937 random(9);
  const std::vector<Load> load = noisy(skewed(0), 0.1, random);
  RebalanceController few(contiguous(),
                          {.window = 1, .round_cost = 0, .may_move_homes = false, .max_moves = 2});
  const RebalanceDecision decision = step(few, load);
  EXPECT_EQ(decision.kind, Rebalance::kReplicas);
  EXPECT_LE(decision.moves, 2);
  EXPECT_GE(decision.moves, 1);
  for (Index p = 0; p < kSlots; ++p) {  // the homes have stayed
    if (p % 5 == 4) continue;
    EXPECT_EQ(few.placement().physical_to_logical[p], contiguous().physical_to_logical[p]);
  }
}

TEST(Controller, DeadRanksAndSpeedsStay) {
  std::mt19937 random(10);
  std::vector<Index> slots;
  for (Index g = 0; g < 4; ++g) {
    for (Index i = 0; i < 6; ++i) slots.push_back((g * 3 + i) % 12);
  }
  const Placement placement = make_placement(
      4, 12, slots, {.num_nodes = 2, .rank_speed = {1, 2, 1, 1}, .rank_alive = {1, 1, 0, 1}});
  RebalanceController controller(placement, {.window = 1, .round_cost = 0});
  std::vector<double> weight(12, 50);
  weight[0] = 3000;
  EXPECT_NE(step(controller, noisy(weight, 0, random)).kind, Rebalance::kKeep);
  EXPECT_EQ(controller.placement().rank_alive, placement.rank_alive);
  EXPECT_EQ(controller.placement().rank_speed, placement.rank_speed);
  EXPECT_EQ(controller.placement().num_nodes, 2);
}

TEST(Controller, RefusesBadArguments) {
  const auto refused = [](const ControllerOptions& options, const char* message) {
    expect_refused([&] { RebalanceController(contiguous(), options); }, message);
  };
  refused({.window = 0}, "window: 0 is not between 1 and 4096");
  refused({.interval = 0}, "interval: 0 is not >= 1");
  refused({.round_cost = -1}, "round_cost: -1 is not a finite number >= 0");
  refused({.life = 0}, "life: 0 is not a finite number > 0");
  refused({.min_gain = NAN}, "min_gain: nan is not a finite number >= 0");
  refused({.num_phases = 9}, "num_phases: 9 is not between 1 and 8");
  refused({.min_tokens = 0}, "min_tokens: 0 is not >= 1");
  refused({.max_trials = -1}, "max_trials: -1 is not >= 0");
  refused({.even_split = true, .cost = weights_only_model()}, "even_split: excludes cost");
  RebalanceController controller(contiguous(), {});
  const std::vector<Load> load(kExperts, 1);
  expect_refused([&] { controller.add(load, 1); }, "phase: 1 is not between 0 and 0");
  expect_refused([&] { controller.add(std::span(load).first(3)); },
                 "load: has 3 entries, expected num_logical_experts (32)");
  std::vector<Load> bad = load;
  bad[3] = -2;
  expect_refused([&] { controller.add(bad); }, "load: has -2, expected >= 0");
}

}  // namespace
}  // namespace lplb
