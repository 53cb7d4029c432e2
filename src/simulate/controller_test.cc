// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

#include "lplb/simulate.h"
#include "lplb/solver.h"
#include "support/expect_refused.h"

namespace lplb {
namespace {

SimulateOptions drifting(double round_cost) {
  SimulateOptions options;
  options.trace = "synthetic:W6_rotating_hotspot";
  options.synthetic.num_logical_experts = 32;
  options.synthetic.num_steps = 24;
  options.num_ranks = 8;
  options.redundants = 1;
  options.policies = {"eplb+lplb", "controller+lplb"};
  options.controller = {.round_cost = round_cost, .max_trials = 30};
  return options;
}

const PolicyReport& controller_of(const SimulateReport& report) { return report.policies.back(); }

TEST(SimulateController, ChargesEveryPolicyForItsRounds) {
  SimulateOptions options = drifting(100);
  const SimulateReport report = simulate(options);
  for (const PolicyReport& policy : report.policies) {
    ASSERT_TRUE(policy.charged);
    EXPECT_GT(policy.rounds, 0);
  }
  // The price of a round is in no figure but this one, and it is linear.
  options.controller->round_cost = 0;
  const SimulateReport freely = simulate(options);
  EXPECT_EQ(freely.policies[0].imbalance.mean, report.policies[0].imbalance.mean);
  EXPECT_EQ(freely.policies[0].rounds, report.policies[0].rounds);
  double tokens = 0;
  for (const double w : report.expert_load) tokens += w;
  EXPECT_NEAR(*report.policies[0].charged - *freely.policies[0].charged,
              100.0 * static_cast<double>(report.policies[0].rounds) / (tokens / 8), 1e-9);
}

TEST(SimulateController, ReplaysTheCore) {
  SimulateOptions options = drifting(300);
  options.window = 4;
  options.synthetic.num_steps = 20;
  options.synthetic.num_layers = 2;
  options.num_threads = 2;
  const SimulateReport report = simulate(options);
  const PolicyReport& policy = controller_of(report);
  ASSERT_FALSE(policy.decisions.empty());
  EXPECT_EQ(policy.rebalances, static_cast<std::int64_t>(policy.decisions.size()));
  std::int64_t rounds = 0;
  std::int64_t moves = 0;
  for (const ReplayedDecision& made : policy.decisions) {
    EXPECT_GT(made.batch, 0);
    EXPECT_LT(made.batch, 20);
    EXPECT_GT(made.decision.expected * made.decision.life, made.decision.price);
    rounds += made.decision.rounds;
    moves += made.decision.moves;
  }
  EXPECT_EQ(policy.rounds, rounds);
  EXPECT_EQ(policy.moved_experts, moves);
  options.num_threads = 1;
  EXPECT_EQ(controller_of(simulate(options)).next_placement, policy.next_placement);
}

TEST(SimulateController, MarksEachDecisionInTheReport) {
  const SimulateReport report = simulate(drifting(100));
  std::set<std::int64_t> batches;
  for (const ReplayedDecision& made : controller_of(report).decisions) batches.insert(made.batch);
  ASSERT_FALSE(batches.empty());
  const std::string page = report_html(report, "");
  std::size_t marks = 0;
  for (std::size_t at = 0; (at = page.find("class=\"rebalance decision", at)) != std::string::npos;
       ++at) {
    ++marks;
  }
  EXPECT_EQ(marks, batches.size());
  EXPECT_NE(page.find("mean with moves charged"), std::string::npos);
  SimulateOptions options = drifting(100);
  options.controller.reset();
  options.policies = {"eplb+lplb"};
  EXPECT_EQ(report_html(simulate(options), "").find("charged"), std::string::npos);
}

TEST(SimulateController, DearMovesAreNotMade) {
  const SimulateReport report = simulate(drifting(1e12));
  EXPECT_EQ(controller_of(report).rebalances, 0);
  EXPECT_EQ(controller_of(report).moved_experts, 0);
  EXPECT_LT(*controller_of(report).charged, 1e3);
  EXPECT_GT(*report.policies[0].charged, 1e3);
}

TEST(SimulateController, IsAddedIfItIsAskedFor) {
  SimulateOptions options = drifting(100);
  options.synthetic.num_steps = 4;
  options.policies = {"none"};
  EXPECT_EQ(simulate(options).settings.policies,
            (std::vector<std::string>{"none", "controller+lplb"}));
  options.cost = weights_only_model();
  const SimulateReport timed = simulate(options);
  EXPECT_EQ(timed.settings.policies, (std::vector<std::string>{"none", "controller+time"}));
  EXPECT_DOUBLE_EQ(*timed.policies[0].charged, timed.policies[0].cost->max.mean);
  options.policies = {"controller+even"};
  EXPECT_EQ(simulate(options).settings.policies, options.policies);
  options.controller.reset();
  EXPECT_FALSE(simulate(options).policies[0].charged);
}

TEST(SimulateController, RefusesWhatItCannotReplay) {
  SimulateOptions options = drifting(-1);
  testing::expect_refused([&] { simulate(options); }, "round_cost: -1 is not a finite number >= 0");
  options = drifting(1);
  options.num_ranks = 7;
  options.num_replicas = 70;
  testing::expect_refused([&] { simulate(options); },
                          "\"controller+lplb\" needs equally many experts on each rank");
}

}  // namespace
}  // namespace lplb
