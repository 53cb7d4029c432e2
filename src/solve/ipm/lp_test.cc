// SPDX-License-Identifier: MIT
#include "lplb/lp.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>

#include "solve/workspace.h"
#include "support/instances.h"

namespace lplb {
namespace {

using lplb::testing::Instance;
using lplb::testing::random_instance;
using lplb::testing::SplitMix64;
using ::testing::HasSubstr;

LinearConstraint node_limit(const Placement& p, Index node, double at_most) {
  LinearConstraint constraint{.at_most = at_most};
  for (Index slot = 0; slot < p.num_physical(); ++slot) {
    if (p.node_of(p.rank_of(slot)) == node) constraint.terms.push_back({slot});
  }
  return constraint;
}

/// The bound that the prices prove, by its definition. If the ranks' prices, each times the rank's
/// speed, sum to 1: no shares within the constraints have a smaller T than what the tokens cost at
/// these prices, less what the limits pay.
double bound_of_prices(const Instance& instance, std::span<const LinearConstraint> constraints,
                       const LpSolution& s) {
  const Placement& p = instance.placement;
  std::vector<double> price(p.physical_to_logical.size(), 0);
  double bound = 0;
  double weight = 0;
  for (Index slot = 0; slot < p.num_physical(); ++slot) price[slot] = s.rank_price[p.rank_of(slot)];
  for (Index g = 0; g < p.num_ranks; ++g) weight += p.speed(g) * s.rank_price[g];
  for (std::size_t c = 0; c < constraints.size(); ++c) {
    bound -= constraints[c].at_most * s.constraint_price[c];
    for (const Term& term : constraints[c].terms) {
      price[term.physical] += term.coefficient * s.constraint_price[c];
    }
  }
  for (Index e = 0; e < p.num_logical_experts; ++e) {
    double least = std::numeric_limits<double>::infinity();
    for (const Index slot : p.replicas(e)) {
      if (p.alive(p.rank_of(slot))) least = std::min(least, price[slot]);
    }
    bound += least * static_cast<double>(instance.load[e]);
  }
  EXPECT_NEAR(weight, 1, 1e-9);
  return bound;
}

/// Checks everything that a solution claims, by the definitions.
void expect_sound(const Instance& instance, std::span<const LinearConstraint> constraints,
                  const LpSolution& s, double tolerance = 1e-6) {
  SCOPED_TRACE(instance.name);
  const Placement& p = instance.placement;
  std::vector<double> taken(instance.load.size(), 0);
  std::vector<double> rank_load(static_cast<std::size_t>(p.num_ranks), 0);
  for (Index slot = 0; slot < p.num_physical(); ++slot) {
    EXPECT_GE(s.physical_load[slot], 0);
    EXPECT_TRUE(p.alive(p.rank_of(slot)) || s.physical_load[slot] == 0);
    taken[p.physical_to_logical[slot]] += s.physical_load[slot];
    rank_load[p.rank_of(slot)] += s.physical_load[slot];
  }
  for (std::size_t e = 0; e < taken.size(); ++e) {
    const auto load = static_cast<double>(instance.load[e]);
    EXPECT_NEAR(taken[e], load, 1e-9 * load);
  }
  double max_load = 0;
  double total = 0;
  for (Index g = 0; g < p.num_ranks; ++g) {
    max_load = std::max(max_load, rank_load[g] / p.speed(g));
    total += rank_load[g];
  }
  EXPECT_NEAR(s.max_load, max_load, 1e-9 * max_load);
  EXPECT_NEAR(bound_of_prices(instance, constraints, s), s.lower_bound, 1e-6 * max_load);
  if (s.status != LpStatus::kOptimal) return;
  EXPECT_LE(s.gap, tolerance);
  EXPECT_GE(s.gap, 0);
  for (const LinearConstraint& constraint : constraints) {
    double sum = 0;
    double scale = 0;
    for (const Term& term : constraint.terms) {
      sum += term.coefficient * s.physical_load[term.physical];
      scale += std::abs(term.coefficient);
    }
    EXPECT_LE(sum, constraint.at_most + 2 * tolerance * scale * (total + 1));
  }
}

TEST(Lp, WithoutConstraintsItIsTheSplitsRelaxation) {
  for (std::uint64_t seed = 0; seed < 500 && !HasFailure(); ++seed) {
    const Instance instance = random_instance(seed);
    const LpSolution s = solve_lp(instance.placement, instance.load, {});
    EXPECT_EQ(s.status, LpStatus::kOptimal);
    expect_sound(instance, {}, s);
    const Split split = solve(instance.placement, instance.load);
    EXPECT_LE(s.lower_bound, split.max_load * (1 + 1e-9));
  }
}

TEST(Lp, NodeLimitByHand) {
  // There are two nodes of two ranks. Expert 0 has a replica on each rank, the others are on one
  // rank each.
  const Instance instance{
      "two nodes",
      make_placement(4, 5, std::vector<Index>{0, 1, 0, 2, 0, 3, 0, 4}, {.num_nodes = 2}),
      {120, 10, 20, 30, 40}};
  // Without a limit, 220 tokens are level on four ranks, and node 0 takes 110 of them.
  LpSolution s = solve_lp(instance.placement, instance.load, {});
  EXPECT_NEAR(s.max_load, 55, 55e-6);
  // Node 0 takes at most 70, so the ranks of node 1 share the other 150.
  const std::vector<LinearConstraint> limits = {node_limit(instance.placement, 0, 70)};
  s = solve_lp(instance.placement, instance.load, limits);
  expect_sound(instance, limits, s);
  EXPECT_EQ(s.status, LpStatus::kOptimal);
  EXPECT_NEAR(s.max_load, 75, 75e-6);
  EXPECT_NEAR(s.rank_load[0] + s.rank_load[1], 70, 1e-3);
  // One more token on node 0 is half a token less on each rank of node 1.
  EXPECT_NEAR(s.constraint_price[0], 0.5, 1e-3);
  // A limit that does not bind has price 0.
  const std::vector<LinearConstraint> wide = {node_limit(instance.placement, 0, 150)};
  s = solve_lp(instance.placement, instance.load, wide);
  EXPECT_NEAR(s.max_load, 55, 55e-6);
  EXPECT_NEAR(s.constraint_price[0], 0, 1e-3);
}

TEST(Lp, LimitsThatCannotBeMetAreInfeasible) {
  const Placement p =
      make_placement(4, 5, std::vector<Index>{0, 1, 0, 2, 0, 3, 0, 4}, {.num_nodes = 2});
  const std::vector<Load> load = {120, 10, 20, 30, 40};
  // Experts 1 and 2 already bring 30 tokens to node 0.
  EXPECT_EQ(solve_lp(p, load, std::vector{node_limit(p, 0, 29)}).status, LpStatus::kInfeasible);
  // Each node could take 100 of the 220, but not both.
  const std::vector both = {node_limit(p, 0, 100), node_limit(p, 1, 100)};
  EXPECT_EQ(solve_lp(p, load, both).status, LpStatus::kInfeasible);
  // A limit on nothing says 0 <= -1.
  EXPECT_EQ(solve_lp(p, load, std::vector{LinearConstraint{.at_most = -1}}).status,
            LpStatus::kInfeasible);
  EXPECT_EQ(
      solve_lp(p, std::vector<Load>(5, 0), std::vector{LinearConstraint{.at_most = -1}}).status,
      LpStatus::kInfeasible);
}

TEST(Lp, LimitsWithoutRoomToSpare) {
  const Instance instance{
      "tight",
      make_placement(4, 5, std::vector<Index>{0, 1, 0, 2, 0, 3, 0, 4}, {.num_nodes = 2}),
      {120, 10, 20, 30, 40}};
  // Slot 0 is closed; node 0 is exactly full; both nodes together are exactly full.
  for (const auto& limits : std::vector<std::vector<LinearConstraint>>{
           {{.terms = {{0}}, .at_most = 0}},
           {node_limit(instance.placement, 0, 30)},
           {node_limit(instance.placement, 0, 100), node_limit(instance.placement, 1, 120)}}) {
    const LpSolution s = solve_lp(instance.placement, instance.load, limits);
    expect_sound(instance, limits, s);
    EXPECT_EQ(s.status, LpStatus::kOptimal);
  }
}

TEST(Lp, SlotsOfOneRankAreToldApart) {
  // Both experts have two slots on rank 0; slot 0 may take at most 2 tokens.
  const Instance instance{
      "slots", make_placement(2, 3, std::vector<Index>{0, 0, 1, 1, 2, 2}), {10, 6, 4}};
  const std::vector<LinearConstraint> limits = {{.terms = {{0}}, .at_most = 2},
                                                {.terms = {{2, 2.0}, {2, 1.0}}, .at_most = 9}};
  const LpSolution s = solve_lp(instance.placement, instance.load, limits);
  expect_sound(instance, limits, s);
  EXPECT_EQ(s.status, LpStatus::kOptimal);
  EXPECT_LE(s.physical_load[0], 2 + 1e-3);
  EXPECT_GE(s.physical_load[1], 8 - 1e-3);
  EXPECT_LE(s.physical_load[2], 3 + 1e-3);  // terms of the same slot add up
}

TEST(Lp, RandomConstraintsAreMetOrProvenImpossible) {
  int counts[3] = {0, 0, 0};
  Workspace workspace;
  LpSolution s;
  for (std::uint64_t seed = 0; seed < 1500 && !HasFailure(); ++seed) {
    const Instance instance = random_instance(seed, {.max_ranks = 8, .max_load = 1000});
    const Placement& p = instance.placement;
    SplitMix64 random(seed);
    const double total =
        static_cast<double>(std::accumulate(instance.load.begin(), instance.load.end(), Load{0}));
    std::vector<LinearConstraint> constraints;
    for (Index c = 1 + random.below(4); c > 0; --c) {
      LinearConstraint constraint{.at_most = total * (0.1 + 0.6 * random.unit())};
      for (Index slot = 0; slot < p.num_physical(); ++slot) {
        if (random.below(2) == 0) constraint.terms.push_back({slot, 0.25 + random.unit()});
      }
      if (random.below(5) == 0 && !constraint.terms.empty()) {
        constraint.terms[0].coefficient = -0.5;  // what this slot takes gives room to others
      }
      constraints.push_back(constraint);
    }
    solve_lp(SplitProblem(p), instance.load, constraints, s, workspace);
    expect_sound(instance, constraints, s);
    EXPECT_NE(s.status, LpStatus::kIterationLimit) << instance.name;
    ++counts[static_cast<int>(s.status)];
  }
  EXPECT_GT(counts[static_cast<int>(LpStatus::kOptimal)], 100);
  EXPECT_GT(counts[static_cast<int>(LpStatus::kInfeasible)], 100);
}

TEST(Lp, WarmStartTakesFewerIterations) {
  const auto workload = lplb::testing::make_workload("hypercube16x2", 1);
  const SplitProblem problem(workload.placement);
  SplitMix64 random(3);
  Workspace workspace;
  LpSolution s;
  int cold = 0;
  int warm = 0;
  for (int batch = 0; batch < 20; ++batch) {
    std::vector<Load> load = workload.loads[0];
    double total = 0;
    for (Load& w : load) {
      w = static_cast<Load>(static_cast<double>(w) * (1 + 0.02 * (2 * random.unit() - 1)));
      total += static_cast<double>(w);
    }
    LinearConstraint limit{.at_most = 0.22 * total};
    for (Index slot = 0; slot < 4 * workload.placement.slots_per_rank(); ++slot) {
      limit.terms.push_back({slot});
    }
    const std::vector limits = {limit};
    solve_lp(problem, load, limits, s, workspace, {.tolerance = 1e-4, .warm_start = batch > 0});
    expect_sound({"warm", workload.placement, load}, limits, s, 1e-4);
    if (batch > 0) warm += s.iterations;
    if (batch > 0) {
      cold += solve_lp(workload.placement, load, limits, {.tolerance = 1e-4}).iterations;
    }
  }
  EXPECT_LT(warm, cold);
}

TEST(Lp, RefusesBadConstraints) {
  const Placement p = make_placement(2, 2, std::vector<Index>{0, 1, 1, 0});
  const auto message = [&](const LinearConstraint& constraint) -> std::string {
    try {
      solve_lp(p, std::vector<Load>{1, 2}, std::vector{constraint});
    } catch (const ArgumentError& e) {
      EXPECT_EQ(e.argument(), "constraints");
      return e.what();
    }
    return "accepted";
  };
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THAT(message({.terms = {{4}}, .at_most = 1}), HasSubstr("names slot 4, expected 0 to 3"));
  EXPECT_THAT(message({.terms = {{-1}}, .at_most = 1}), HasSubstr("names slot -1"));
  EXPECT_THAT(message({.terms = {{0, nan}}, .at_most = 1}),
              HasSubstr("coefficient nan for slot 0"));
  EXPECT_THAT(message({.terms = {}, .at_most = nan}), HasSubstr("at_most nan"));
  const std::vector<LinearConstraint> many(static_cast<std::size_t>(kMaxLpConstraints));
  EXPECT_THROW(solve_lp(p, std::vector<Load>{1, 2}, many), ArgumentError);
  EXPECT_THROW(solve_lp(p, std::vector<Load>{1, -2}, {}), ArgumentError);
  EXPECT_STREQ(lp_status_name(LpStatus::kInfeasible), "infeasible");
}

}  // namespace
}  // namespace lplb
