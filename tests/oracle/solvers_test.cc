// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <numeric>

#include "lplb/solver.h"
#include "oracle/brute_force.h"
#include "support/instances.h"

// Compares every solver with the oracles: the optimum must be the same, and the certificate must
// hold by its definition.
namespace lplb::oracle {
namespace {

using testing::adversarial_instances;
using testing::Instance;
using testing::random_instance;
using testing::RandomLimits;

std::vector<Solver> solvers_for(const Placement& placement) {
  if (placement.num_ranks <= kMaxCutRanks) return {Solver::kCut, Solver::kFlow};
  return {Solver::kFlow};
}

// Checks that the tokens of the replicas, summed by expert and by rank, are what the split says.
void expect_consistent(const Instance& instance, const Split& split) {
  const Placement& placement = instance.placement;
  std::vector<Load> taken(placement.num_logical_experts, 0);
  std::vector<Load> rank_load(placement.num_ranks, 0);
  const std::size_t slots = placement.physical_to_logical.size() / placement.num_ranks;
  ASSERT_EQ(split.physical_load.size(), placement.physical_to_logical.size());
  for (std::size_t p = 0; p < split.physical_load.size(); ++p) {
    const auto rank = static_cast<Index>(p / slots);
    ASSERT_GE(split.physical_load[p], 0);
    ASSERT_TRUE(placement.alive(rank) || split.physical_load[p] == 0);
    taken[placement.physical_to_logical[p]] += split.physical_load[p];
    rank_load[rank] += split.physical_load[p];
  }
  EXPECT_EQ(taken, instance.load);
  EXPECT_EQ(rank_load, split.rank_load);
}

void expect_optimal(const Instance& instance, const Value& best, Solver solver) {
  SCOPED_TRACE(instance.name + ", " + solver_name(solver));
  SolveOptions options;
  options.solver = solver;
  const Split split = solve(instance.placement, instance.load, options);
  EXPECT_EQ(split.solver, solver);
  EXPECT_EQ(split.status, SolveStatus::kOptimal);
  expect_consistent(instance, split);

  const Value reached = value_of(instance.placement, split.rank_load);
  EXPECT_EQ(compare(instance.placement, reached, best), 0)
      << "max_load " << split.max_load << ", optimum " << as_double(instance.placement, best);
  EXPECT_DOUBLE_EQ(split.max_load, as_double(instance.placement, best));
  EXPECT_EQ(split.lower_bound, split.max_load);
  EXPECT_TRUE(certifies(instance.placement, instance.load, best, split.bottleneck_ranks));
}

void expect_optimal_by_all(const Instance& instance) {
  const Value best = optimum(instance.placement, instance.load);
  for (const Solver solver : solvers_for(instance.placement)) {
    expect_optimal(instance, best, solver);
  }
}

TEST(SolversAndOracle, AgreeOnTinyInstances) {
  RandomLimits limits;
  limits.max_ranks = 5;
  limits.max_load = 12;
  for (std::uint64_t seed = 0; seed < 10000 && !HasFailure(); ++seed) {
    expect_optimal_by_all(random_instance(seed, limits));
  }
}

TEST(SolversAndOracle, AgreeUpToTheCutSolversLimit) {
  RandomLimits limits;
  limits.max_ranks = kMaxCutRanks;
  limits.max_slots_per_rank = 6;
  limits.max_load = 100000;
  for (std::uint64_t seed = 10000; seed < 16000 && !HasFailure(); ++seed) {
    expect_optimal_by_all(random_instance(seed, limits));
  }
}

TEST(SolversAndOracle, AgreeOnMoreRanks) {
  RandomLimits limits;
  limits.max_ranks = 48;
  limits.max_slots_per_rank = 6;
  limits.max_load = Load{1} << 40;
  for (std::uint64_t seed = 20000; seed < 20600 && !HasFailure(); ++seed) {
    expect_optimal_by_all(random_instance(seed, limits));
  }
}

TEST(SolversAndOracle, AgreeOnAdversarialInstances) {
  for (const Instance& instance : adversarial_instances()) expect_optimal_by_all(instance);
}

}  // namespace
}  // namespace lplb::oracle
