// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "lplb/homes.h"
#include "lplb/replicate.h"
#include "lplb/simulate.h"
#include "solve/time/test_models.h"
#include "support/test_files.h"

// Policies that copy experts for each batch: "NAME+dynamic:S".
namespace lplb {
namespace {

using ::testing::HasSubstr;
using testing::largest_cost;
using testing::message_of;

constexpr std::size_t kExperts = 16;

class DynamicReplay : public testing::Files {
 protected:
  /// 12 batches of 2 layers of 16 experts on 4 ranks.
  DynamicReplay() {
    options_.trace = "synthetic:W7_burst";
    options_.synthetic.num_logical_experts = kExperts;
    options_.synthetic.num_topk = 2;
    options_.synthetic.num_layers = 2;
    options_.synthetic.num_steps = 12;
    options_.synthetic.num_tokens = 300;
    options_.num_ranks = 4;
    const std::string file = write("p.json", R"({"num_ranks": 4, "num_logical_experts": 16,
        "rank_speed": [1, 0.5, 1, 2], "rank_alive": [true, true, false, true],
        "physical_to_logical": [0, 1, 2, 3, 0, 5, 10, 5, 6, 7, 4, 8, 9, 11, 15, 10, 0, 1, 11, 12, 2,
                                13, 14, 4, 8, 9, 15, 12]})");
    placed_ = "file:" + file;
  }

  /// Calls see(load [16]) for each step and layer of the trace.
  template <class See>
  void for_each_load(const See& see) const {
    const auto reader = open_trace(options_.trace, options_.synthetic);
    for (TraceStep step; reader->next(step);) {
      for (std::size_t layer = 0; layer < 2; ++layer) {
        const auto begin = step.load.begin() + static_cast<std::ptrdiff_t>(kExperts * layer);
        see(std::vector<Load>(begin, begin + kExperts));
      }
    }
  }

  SimulateOptions options_;
  std::string placed_;
};

/// The figures of a policy whose placement never changes are those of replicate().
TEST_F(DynamicReplay, FiguresAreThoseOfReplicate) {
  options_.expert_bytes = 1000;
  for (const ReplicateOptions& how :
       {ReplicateOptions{.dynamic_slots = 1}, ReplicateOptions{.dynamic_slots = 3},
        ReplicateOptions{.dynamic_slots = 2, .target = 1.3, .min_tokens = 9},
        ReplicateOptions{.dynamic_slots = 8, .num_domains = 2}}) {
    options_.copy_target = how.target;
    options_.copy_min_tokens = how.min_tokens;
    options_.copy_domains = how.num_domains;
    for (const std::string& placement : {placed_, std::string("none")}) {
      options_.policies = {placement + "+dynamic:" + std::to_string(how.dynamic_slots)};
      const PolicyReport policy = simulate(options_).policies[0];
      double imbalances = 0, gaps = 0, worst = 0;
      Index copies = 0, busiest = 0, most = 0;
      std::int64_t pairs = 0, optimal = 0;
      for_each_load([&](const std::vector<Load>& load) {
        const Placement& fixed = policy.next_placement[0];
        const Replication plan = replicate(fixed, load, how);
        EXPECT_EQ(verify_replication(fixed, load, how, plan), "");
        const double value = imbalance(fixed, plan.rank_load);
        imbalances += value;
        worst = std::max(worst, value);
        gaps += plan.max_load / plan.lower_bound - 1;
        copies += plan.copies;
        busiest += std::max(plan.max_sent, plan.max_received);
        most = std::max(most, plan.copies);
        optimal += plan.status == SolveStatus::kOptimal ? 1 : 0;
        ++pairs;
      });
      const auto n = static_cast<double>(pairs);
      EXPECT_DOUBLE_EQ(policy.imbalance.mean, imbalances / n) << policy.name;
      EXPECT_EQ(policy.imbalance.max, worst);
      EXPECT_DOUBLE_EQ(policy.gap_mean, gaps / n);
      EXPECT_EQ(policy.solves, pairs);
      EXPECT_EQ(policy.optimal, optimal);
      EXPECT_GT(policy.solve_us.p50, 0);
      ASSERT_TRUE(policy.copies);
      EXPECT_GT(copies, 0);
      EXPECT_DOUBLE_EQ(policy.copies->mean, copies / n);
      EXPECT_DOUBLE_EQ(policy.copies->mean_bytes, 1000 * copies / n);
      EXPECT_DOUBLE_EQ(policy.copies->busiest_mean, busiest / n);
      EXPECT_EQ(policy.copies->max, most);
      EXPECT_EQ(policy.copies->exposed_us_mean, 0);
      EXPECT_FALSE(policy.cost);
    }
  }
}

/// Placements that change: at each rebalance the copies are chosen over the new one.
TEST_F(DynamicReplay, FollowsThePlacement) {
  for (const char* placement : {"eplb", "eplb-spread", "eplb-keep", "cube"}) {
    options_.num_ranks = placement == std::string("cube") ? 8 : 4;
    options_.redundants = placement == std::string("cube") ? 1 : 2;
    options_.policies = {std::string(placement) + "+lplb", std::string(placement) + "+dynamic:1"};
    const SimulateReport report = simulate(options_);
    const PolicyReport& split = report.policies[0];
    const PolicyReport& copied = report.policies[1];
    EXPECT_EQ(split.moved_experts, copied.moved_experts);
    EXPECT_EQ(split.next_placement, copied.next_placement);
    EXPECT_LE(copied.imbalance.mean, split.imbalance.mean) << placement;
    EXPECT_LE(copied.imbalance.max, split.imbalance.max) << placement;
    EXPECT_GE(copied.gap_mean, 0);
    EXPECT_FALSE(split.copies);
    EXPECT_TRUE(copied.copies);
  }
}

/// Homes are placed for the dynamic slots that their batches have.
TEST_F(DynamicReplay, HomesArePlacedForTheirSlots) {
  options_.redundants = 1;
  options_.copy_domains = 2;
  options_.policies = {"homes+lplb", "homes+dynamic:1", "homes+dynamic:2", "homes+dynamic:2:time"};
  options_.cost = CostModel("us", {3, {4, 16}, {7, 9}, 16, 8});
  const SimulateReport report = simulate(options_);
  std::vector<std::vector<double>> batches;  // of layer 0
  std::size_t pair = 0;
  for_each_load([&](const std::vector<Load>& load) {
    if (pair++ % 2 == 0) batches.emplace_back(load.begin(), load.end());
  });
  for (std::size_t policy = 0; policy < 3; ++policy) {
    const HomesOptions how{.dynamic_slots = static_cast<Index>(policy),
                           .num_domains = policy == 0 ? 1 : 2};
    std::vector<Placement> now;
    std::vector<double> loads(kExperts, 1.0);
    for (std::size_t batch = 0; batch <= batches.size(); ++batch) {
      const auto count = static_cast<Index>(loads.size() / kExperts);
      const ExpertMaps maps = place_homes(loads, count, 1, kExperts, 20, 4, now, how).maps;
      now = {make_placement(4, kExperts, maps.layer(0))};
      if (batch == batches.size()) break;
      loads.clear();
      for (std::size_t b = batch + 1 - std::min<std::size_t>(batch + 1, 8); b <= batch; ++b) {
        loads.insert(loads.end(), batches[b].begin(), batches[b].end());
      }
    }
    EXPECT_EQ(report.policies[policy].next_placement[0], now[0]) << policy;
  }
  EXPECT_NE(report.policies[0].next_placement, report.policies[1].next_placement);
  EXPECT_EQ(report.policies[2].next_placement, report.policies[3].next_placement);
  EXPECT_LE(report.policies[2].imbalance.mean, report.policies[1].imbalance.mean);
}

/// Tokens are kept on their ranks by the split over main and dynamic slots.
TEST_F(DynamicReplay, CountsLocalTokens) {
  options_.policies = {"none", "none+dynamic:2"};
  const SimulateReport report = simulate(options_);
  ASSERT_TRUE(report.policies[0].local_share);
  ASSERT_TRUE(report.policies[1].local_share);
  EXPECT_NE(*report.policies[0].local_share, *report.policies[1].local_share);
  EXPECT_GT(*report.policies[1].local_share, 0);
  EXPECT_LT(*report.policies[1].local_share, 1);
}

TEST_F(DynamicReplay, ThreadsChangeNothing) {
  options_.policies = {"none+dynamic:1", "eplb+dynamic:1", "eplb+dynamic:2:time"};
  options_.cost = CostModel("us", {3, {4, 16}, {7, 9}, 16, 8});
  const auto figures = [this](int threads) {
    options_.num_threads = threads;
    nlohmann::json json = nlohmann::json::parse(report_json(simulate(options_)));
    json["settings"].erase("num_threads");
    for (auto& policy : json["policies"]) policy.erase("solve_us");
    return json;
  };
  EXPECT_EQ(figures(1), figures(3));
}

/// With a cost model a policy without ":time" costs what replicate()'s split costs, and what
/// copying costs comes on top.
TEST_F(DynamicReplay, CostsIncludeCopying) {
  const CostModel model("us", {3, {4, 16}, {7, 9}, 16, 8});
  options_.cost = model;
  options_.policies = {"none+dynamic:2"};
  options_.expert_bytes = 1'000'000;
  const PolicyReport free = simulate(options_).policies[0];
  options_.copy_gigabytes_per_s = 100;  // 10 us a copy
  options_.copy_hidden_us = 15;
  const PolicyReport paid = simulate(options_).policies[0];
  double cost = 0, exposed = 0;
  for_each_load([&](const std::vector<Load>& load) {
    const Placement& homes = free.next_placement[0];
    const Replication plan = replicate(homes, load, {.dynamic_slots = 2});
    std::vector<Index> map;
    for (Index g = 0; g < 4; ++g) {
      for (Index i = 0; i < 4; ++i) map.push_back(homes.physical_to_logical[g * 4 + i]);
      for (Index i = 0; i < 2; ++i) {
        const Index e = plan.slot_expert[g * 2 + i];
        map.push_back(e >= 0 ? e : homes.physical_to_logical[g * 4 + 3]);
      }
    }
    const Placement whole = make_placement(4, 16, map);
    cost += static_cast<double>(largest_cost(whole, plan.physical_load, model)) / kCostsPerUnit;
    exposed += std::max(0, 10 * std::max(plan.max_sent, plan.max_received) - 15);
  });
  ASSERT_TRUE(free.cost && paid.cost && paid.copies);
  EXPECT_NEAR(free.cost->max.mean, cost / 24, 1e-9);
  EXPECT_GT(exposed, 0);
  EXPECT_NEAR(paid.copies->exposed_us_mean, exposed / 24, 1e-9);
  EXPECT_NEAR(paid.cost->max.mean, (cost + exposed) / 24, 1e-9);
  EXPECT_TRUE(std::isnan(paid.cost->gap_mean));  // no bound is known
  EXPECT_TRUE(std::isnan(paid.cost->gap_max));
  EXPECT_EQ(free.imbalance.mean, paid.imbalance.mean);
}

/// Copies by time never cost more than none, and are not made if they do not pay.
TEST_F(DynamicReplay, CopiesByTimePay) {
  options_.cost = CostModel("us", {3, {4, 16}, {7, 9}, 16, 8});
  options_.expert_bytes = 1'000'000;
  for (const std::string& placement : {std::string("none"), std::string("eplb"), placed_}) {
    options_.policies = {placement + "+time", placement + "+dynamic:2:time"};
    options_.copy_gigabytes_per_s = 0;
    const SimulateReport free = simulate(options_);
    options_.copy_gigabytes_per_s = 1000;  // 1 us a copy
    const SimulateReport paid = simulate(options_);
    options_.copy_gigabytes_per_s = 1e-3;
    const SimulateReport dear = simulate(options_);
    const auto cost = [](const SimulateReport& report, std::size_t i) {
      return report.policies[i].cost->max;
    };
    EXPECT_LT(cost(free, 1).mean, cost(free, 0).mean) << placement;
    EXPECT_LE(cost(free, 1).mean, cost(paid, 1).mean);
    EXPECT_LT(cost(paid, 1).mean, cost(paid, 0).mean) << placement;
    EXPECT_LE(cost(paid, 1).max, cost(paid, 0).max);
    EXPECT_EQ(cost(dear, 1).mean, cost(dear, 0).mean);
    EXPECT_EQ(dear.policies[1].copies->mean, 0);
    EXPECT_EQ(dear.policies[1].imbalance.mean, dear.policies[0].imbalance.mean);
    EXPECT_EQ(dear.policies[1].cost->gap_mean, dear.policies[0].cost->gap_mean);
    EXPECT_GT(paid.policies[1].copies->mean, 0);
    EXPECT_LE(paid.policies[1].copies->mean, free.policies[1].copies->mean);
    EXPECT_GE(free.policies[1].cost->gap_mean, 0);
    EXPECT_TRUE(std::isfinite(free.policies[1].cost->gap_max));
  }
}

TEST_F(DynamicReplay, SaysWhatIsWrong) {
  const auto refused = [this](const std::string& policy) {
    SimulateOptions options = options_;
    options.policies = {policy};
    return message_of<ArgumentError>([&] { simulate(options); });
  };
  EXPECT_THAT(refused("none+dynamic:0"), HasSubstr("\"none+dynamic:0\" has 0 dynamic slots"));
  EXPECT_THAT(refused("none+dynamic:9"), HasSubstr("expected 1 to 8"));
  EXPECT_THAT(refused("eplb+dynamic:99:time"), HasSubstr("99 dynamic slots"));
  EXPECT_THAT(refused("none+dynamic:"), HasSubstr("is unknown"));
  EXPECT_THAT(refused("none+dynamic:1x"), HasSubstr("is unknown"));
  EXPECT_THAT(refused("none+dynamic:1:tim"), HasSubstr("is unknown"));
  EXPECT_THAT(refused("nothing+dynamic:1"), HasSubstr("nothing"));
  EXPECT_THAT(refused("eplb+dynamic:1:time"), HasSubstr("needs a cost model"));
  options_.num_replicas = 4092;
  EXPECT_THAT(refused("eplb+dynamic:2"), HasSubstr("make 4100 slots"));
  options_.num_replicas = 0;

  const auto message = [this] { return message_of<ArgumentError>([this] { simulate(options_); }); };
  options_.copy_target = 0.5;
  EXPECT_THAT(message(), HasSubstr("copy_target: 0.5 is not between 1 and 1000"));
  options_.copy_target = 1;
  options_.copy_min_tokens = 0;
  EXPECT_THAT(message(), HasSubstr("copy_min_tokens: 0"));
  options_.copy_min_tokens = 1;
  options_.copy_domains = 3;
  EXPECT_THAT(message(), HasSubstr("copy_domains: 3 does not divide num_ranks (4)"));
  options_.copy_domains = 1;
  options_.copy_gigabytes_per_s = -1;
  EXPECT_THAT(message(), HasSubstr("copy_gigabytes_per_s: -1"));
  options_.copy_gigabytes_per_s = 400;
  EXPECT_THAT(message(), HasSubstr("expected expert_bytes > 0"));
  options_.expert_bytes = 1;
  EXPECT_THAT(message(), HasSubstr("needs a cost model in \"us\""));
  options_.cost = weights_only_model();
  EXPECT_THAT(message(), HasSubstr("needs a cost model in \"us\""));
  options_.cost = CostModel("us", {3, {4, 16}, {7, 9}, 16, 8});
  options_.copy_hidden_us = std::nan("");
  EXPECT_THAT(message(), HasSubstr("copy_hidden_us: nan"));
}

}  // namespace
}  // namespace lplb
