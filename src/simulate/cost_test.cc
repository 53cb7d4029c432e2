// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "lplb/simulate.h"
#include "solve/time/test_models.h"
#include "support/test_files.h"

// What a replay says if there is a cost model.
namespace lplb {
namespace {

using ::testing::HasSubstr;
using testing::largest_cost;
using testing::message_of;
using ::testing::Not;

CostTable table_of(double scale) { return {3 * scale, {4, 16}, {7 * scale, 9 * scale}, 16, 8}; }

CostReport cost_of(const PolicyReport& policy) {
  EXPECT_TRUE(policy.cost) << policy.name;
  return policy.cost.value_or(CostReport());
}

class CostReplay : public testing::Files {
 protected:
  /// 12 batches of 2 layers of 16 experts on 4 ranks, in a placement with speeds and a dead rank.
  CostReplay() {
    options_.trace = "synthetic:W7_burst";
    options_.synthetic.num_logical_experts = 16;
    options_.synthetic.num_topk = 2;
    options_.synthetic.num_layers = 2;
    options_.synthetic.num_steps = 12;
    options_.synthetic.num_tokens = 300;
    options_.num_ranks = 4;
    options_.cost = model_;
    const std::string file = write("p.json", R"({"num_ranks": 4, "num_logical_experts": 16,
        "rank_speed": [1, 0.5, 1, 2], "rank_alive": [true, true, false, true],
        "physical_to_logical": [0, 1, 2, 3, 0, 5, 10, 5, 6, 7, 4, 8, 9, 11, 15, 10, 0, 1, 11, 12, 2,
                                13, 14, 4, 8, 9, 15, 12]})");
    placed_ = "file:" + file;
    options_.policies = {placed_ + "+even", placed_ + "+lplb", placed_ + "+time"};
  }

  /// The figures without times and without the number of threads.
  static nlohmann::json figures(const SimulateReport& report) {
    nlohmann::json json = nlohmann::json::parse(report_json(report));
    json["settings"].erase("num_threads");
    for (auto& policy : json["policies"]) policy.erase("solve_us");
    return json;
  }

  const CostModel model_{"us", {table_of(1), table_of(1.5), table_of(1), table_of(0.5)}};
  SimulateOptions options_;
  std::string placed_;
};

/// Each policy's figures, from the splits of each step and layer by themselves.
TEST_F(CostReplay, FiguresAreThoseOfTheSplits) {
  const SimulateReport report = simulate(options_);
  const Placement placement = report.policies[0].next_placement[0];
  ASSERT_FALSE(placement.alive(2));
  const auto reader = open_trace(options_.trace, options_.synthetic);
  std::vector<double> sum(3), gap(3), most(3), layer(2);
  std::int64_t optimal = 0;
  for (TraceStep step; reader->next(step);) {
    for (std::size_t l = 0; l < 2; ++l) {
      const std::vector<Load> load(step.load.begin() + static_cast<std::ptrdiff_t>(16 * l),
                                   step.load.begin() + static_cast<std::ptrdiff_t>(16 * (l + 1)));
      std::vector<Load> even(static_cast<std::size_t>(placement.num_physical()));
      split_evenly(placement, load, even);
      const Split exact = solve(placement, load);
      const Split time = solve(placement, load, {.cost = &model_});
      optimal += time.status == SolveStatus::kOptimal;
      const std::vector<Load>* const splits[] = {&even, &exact.physical_load, &time.physical_load};
      for (std::size_t p = 0; p < 3; ++p) {
        const double cost =
            static_cast<double>(largest_cost(placement, *splits[p], model_)) / kCostsPerUnit;
        sum[p] += cost;
        gap[p] += cost / time.cost.lower_bound - 1;
        most[p] = std::max(most[p], cost);
        if (p == 2) layer[l] += cost;
      }
    }
  }
  for (std::size_t p = 0; p < 3; ++p) {
    const CostReport cost = cost_of(report.policies[p]);
    EXPECT_NEAR(cost.max.mean, sum[p] / 24, 1e-9) << p;
    EXPECT_EQ(cost.max.max, most[p]) << p;
    EXPECT_NEAR(cost.gap_mean, gap[p] / 24, 1e-9) << p;
  }
  EXPECT_EQ(report.policies[2].optimal, optimal);
  EXPECT_EQ(report.policies[2].solves, 24);
  EXPECT_NEAR(cost_of(report.policies[2]).layer_mean[1], layer[1] / 12, 1e-9);
  EXPECT_LT(sum[2], sum[1]);
  EXPECT_LT(sum[2], sum[0]);
  EXPECT_EQ(report.num_solves, 48);
}

TEST_F(CostReplay, DoesNotDependOnJobs) {
  options_.trace = testing::recorded("deepseek-v2-lite.topk.npy");
  options_.batch_tokens = 512;
  options_.num_ranks = 8;
  options_.cost = testing::staircase_model();
  options_.policies = {"none", "eplb", "eplb+stale", "eplb+time", "cube+time", "none+time"};
  const SimulateReport one = simulate(options_);
  options_.num_threads = 3;
  EXPECT_EQ(figures(simulate(options_)), figures(one));
  const std::vector<PolicyReport>& policies = one.policies;
  EXPECT_LE(cost_of(policies[3]).max.mean, cost_of(policies[1]).max.mean);
  EXPECT_EQ(cost_of(policies[5]).max.mean, cost_of(policies[0]).max.mean);
  EXPECT_EQ(cost_of(policies[0]).gap_max, 0);
}

TEST_F(CostReplay, WithoutAModelThereAreNoCosts) {
  options_.cost.reset();
  EXPECT_THAT(message_of<ArgumentError>([&] { simulate(options_); }),
              HasSubstr("+time\" needs a cost model"));
  options_.policies.pop_back();
  const SimulateReport report = simulate(options_);
  EXPECT_FALSE(report.policies[0].cost);
  EXPECT_EQ(report.num_solves, 24);
  EXPECT_THAT(report_html(report, ""), Not(HasSubstr("cost.mean")));
}

TEST_F(CostReplay, RefusesWhatDoesNotFit) {
  options_.cost = CostModel("us", {table_of(1), table_of(2)});
  EXPECT_THAT(message_of<ArgumentError>([&] { simulate(options_); }),
              HasSubstr("cost: has 2 tables, expected one, or num_ranks (4)"));
  options_.cost = testing::staircase_model();
  options_.solver = Solver::kTime;
  EXPECT_THAT(message_of<ArgumentError>([&] { simulate(options_); }),
              HasSubstr("solver: \"time\""));
}

TEST_F(CostReplay, SaysThatLoadsWereCutInProportion) {
  options_.trace = testing::recorded("deepseek-v2-lite.load.jsonl");
  options_.policies = {"none"};
  options_.num_ranks = 8;
  options_.cost = testing::staircase_model();
  options_.batch_tokens = 64;
  const SimulateReport report = simulate(options_);
  EXPECT_EQ(report.num_cut_loads, 79);  // the steps of 128 tokens or more
  EXPECT_THAT(report_html(report, ""), HasSubstr("79 steps of the trace have no routing"));
  options_.trace = testing::recorded("deepseek-v2-lite.topk.npy");
  EXPECT_EQ(simulate(options_).num_cut_loads, 0);
}

}  // namespace
}  // namespace lplb
