// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include "lplb/solver.h"
#include "support/allocations.h"
#include "support/instances.h"

namespace lplb {
namespace {

using lplb::testing::num_allocations;

TEST(Allocations, AreCounted) {
  const std::int64_t before = num_allocations();
  const std::vector<int> v(100);
  EXPECT_EQ(num_allocations() - before, 1) << "size " << v.size();
}

TEST(Allocations, NoneAfterTheFirstSolve) {
  for (const std::string& name : lplb::testing::workload_names()) {
    const auto workload = lplb::testing::make_workload(name, 8);
    for (const Solver solver : {Solver::kAuto, Solver::kFlow, Solver::kIpm}) {
      const SplitProblem problem(workload.placement);
      Split split;
      Workspace workspace;
      solve(problem, workload.loads[0], split, workspace, {.solver = solver});
      const std::int64_t before = num_allocations();
      for (const auto& load : workload.loads) {
        solve(problem, load, split, workspace, {.solver = solver});
      }
      EXPECT_EQ(num_allocations() - before, 0) << name;
    }
  }
}

TEST(Allocations, NoneAfterTheFirstSolveByCost) {
  const CostModel model("us", CostTable{32, {128, 256}, {31, 42}, 256, 34});
  for (const std::string& name : lplb::testing::workload_names()) {
    const auto workload = lplb::testing::make_workload(name, 8);
    const SplitProblem problem(workload.placement);
    Split split;
    Workspace workspace;
    // The first round brings all memory to the size that these batches need.
    for (const bool counts : {false, true}) {
      const std::int64_t before = num_allocations();
      for (auto load : workload.loads) {
        const std::int64_t copied = num_allocations();
        for (const Load divisor : {1, 16, 256}) {  // down to decode
          for (Load& tokens : load) tokens /= divisor;
          solve(problem, load, split, workspace, {.cost = &model});
        }
        if (counts) {
          EXPECT_EQ(num_allocations(), copied) << name;
        }
      }
      EXPECT_GT(num_allocations(), before) << "the copies of the loads are counted";
    }
  }
}

TEST(Allocations, NoneForAnotherPlacementOfTheSameSize) {
  const auto a = lplb::testing::make_workload("EP64+64", 2, 1);
  const auto b = lplb::testing::make_workload("EP64+64", 2, 2);
  SplitProblem problem(a.placement);
  problem.assign(b.placement);
  problem.assign(a.placement);
  Split split;
  Workspace workspace;
  solve(problem, a.loads[0], split, workspace);
  problem.assign(b.placement);
  solve(problem, b.loads[0], split, workspace);
  const std::int64_t before = num_allocations();
  problem.assign(a.placement);
  solve(problem, a.loads[1], split, workspace);
  problem.assign(b.placement);
  solve(problem, b.loads[1], split, workspace);
  EXPECT_EQ(num_allocations() - before, 0);
}

}  // namespace
}  // namespace lplb
