// SPDX-License-Identifier: MIT
#include "simulate/stale_split.h"

#include <gmock/gmock.h>

#include <numeric>

#include "lplb/simulate.h"
#include "support/instances.h"
#include "support/test_files.h"

namespace lplb {
namespace {

using ::testing::ElementsAre;

// Expert 0 is on ranks 0, 1 and 2, expert 1 on rank 0, expert 2 on ranks 1 and 2.
Placement three_ranks() {
  const std::vector<Index> map = {0, 1, 0, 2, 0, 2};
  return make_placement(3, 3, map);
}

std::vector<Load> split_of(const std::vector<Load>& shares, const std::vector<Load>& load) {
  std::vector<Load> split(6, -1);
  replay::split_by_shares(three_ranks(), shares, load, split);
  return split;
}

TEST(SplitByShares, FollowsWhatReplicasTookThen) {
  EXPECT_THAT(split_of({10, 5, 20, 0, 10, 7}, {80, 9, 30}), ElementsAre(20, 9, 40, 0, 20, 30));
}

TEST(SplitByShares, IsEvenWhereNothingWasTaken) {
  EXPECT_THAT(split_of({0, 0, 0, 3, 0, 1}, {7, 2, 8}), ElementsAre(2, 2, 2, 6, 3, 2));
}

TEST(SplitByShares, IsOffByLessThanOneToken) {
  testing::SplitMix64 random(1);
  for (int repeat = 0; repeat < 200; ++repeat) {
    std::vector<Load> shares(6), load(3);
    for (Load& n : shares) n = random.between(0, 1 << 20);
    for (Load& n : load) n = random.between(0, Load{1} << 40);
    const std::vector<Load> split = split_of(shares, load);
    const Placement p = three_ranks();
    for (Index e = 0; e < 3; ++e) {
      Load sum = 0, whole = 0;
      for (const Index slot : p.replicas(e)) {
        sum += split[slot];
        whole += shares[slot];
      }
      EXPECT_EQ(sum, load[e]);
      for (const Index slot : p.replicas(e)) {
        const double exact = static_cast<double>(load[e]) * static_cast<double>(shares[slot]) /
                             static_cast<double>(whole);
        EXPECT_NEAR(static_cast<double>(split[slot]), exact, 1.001);
      }
    }
  }
}

SimulateReport replay_of(const std::string& trace, int steps, Index rebalance_every) {
  SimulateOptions options;
  options.trace = trace;
  options.synthetic.num_logical_experts = 32;
  options.synthetic.num_topk = 4;
  options.synthetic.num_layers = 2;
  options.synthetic.num_steps = steps;
  options.synthetic.num_tokens = 256;
  options.rebalance_every = rebalance_every;
  options.window = 1;
  options.policies = {"eplb", "eplb+lplb", "eplb+stale", "cube+lplb", "cube+stale"};
  return simulate(options);
}

TEST(StalePolicy, OfTheFirstBatchIsEven) {
  const SimulateReport report = replay_of("synthetic:W6_rotating_hotspot", 1, 1);
  EXPECT_EQ(report.policies[2].imbalance.mean, report.policies[0].imbalance.mean);
  EXPECT_EQ(report.policies[2].solves, 0);
}

// A stale split is never better than the optimum of the batch itself.
TEST(StalePolicy, PaysForBeingABatchLate) {
  for (const Index rebalance_every : {1, 4, 1000}) {
    const SimulateReport report = replay_of("synthetic:W6_rotating_hotspot", 40, rebalance_every);
    EXPECT_GE(report.policies[2].imbalance.mean, report.policies[1].imbalance.mean);
    EXPECT_GE(report.policies[4].imbalance.mean, report.policies[3].imbalance.mean);
    EXPECT_GT(report.policies[4].gap_mean, 0);
  }
}

TEST(StalePolicy, OfRecordedBatchesIsBetweenEvenAndExact) {
  SimulateOptions options;
  options.batch_tokens = 1024;
  options.trace = testing::recorded("deepseek-v2-lite.load.jsonl");
  options.policies = {"eplb", "eplb+stale", "eplb+lplb"};
  const SimulateReport report = simulate(options);
  EXPECT_LT(report.policies[1].imbalance.mean, report.policies[0].imbalance.mean);
  EXPECT_GT(report.policies[1].imbalance.mean, report.policies[2].imbalance.mean);
}

TEST(StalePolicy, DoesNotDependOnJobs) {
  SimulateOptions options;
  options.trace = testing::recorded("deepseek-v2-lite.load.jsonl");
  options.policies = {"eplb+stale"};
  options.num_threads = 1;
  const double one = simulate(options).policies[0].imbalance.mean;
  options.num_threads = 3;
  EXPECT_EQ(simulate(options).policies[0].imbalance.mean, one);
}

}  // namespace
}  // namespace lplb
