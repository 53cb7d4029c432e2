// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <span>

#include "lplb/placement.h"
#include "lplb/simulate.h"
#include "support/test_files.h"

// What is in the figures, and what is not: batches without tokens, and the first batches.
namespace lplb {
namespace {

using ::testing::DoubleEq;
using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using ::testing::HasSubstr;
using testing::message_of;

/// Steps of several layers of 8 experts, top 2. A step is a list of layers.
using Steps = std::vector<std::vector<std::vector<Load>>>;

const std::vector<Load> kIdle(8, 0);

std::string text_of(const Steps& steps) {
  TraceInfo info;
  info.name = "steps";
  info.num_layers = static_cast<Index>(steps[0].size());
  info.num_logical_experts = 8;
  info.num_topk = 2;
  std::string text = trace_header_line(info);
  for (const auto& layers : steps) {
    text += nlohmann::json{{"load", layers}}.dump() + "\n";
  }
  return text;
}

class FiguresTest : public testing::Files {
 protected:
  SimulateReport replay(const Steps& steps, Index window, std::int64_t warm_up = 0) const {
    SimulateOptions options;
    options.trace = write("t.jsonl", text_of(steps));
    options.num_ranks = 4;
    options.redundants = 1;
    options.window = window;
    options.warm_up = warm_up;
    return simulate(options);
  }

  const Steps busy_ = {{{9, 1, 1, 1, 2, 2, 2, 2}, {1, 1, 5, 5, 2, 2, 2, 2}},
                       {{8, 1, 1, 2, 2, 2, 2, 2}, {1, 1, 6, 4, 2, 2, 2, 2}},
                       {{1, 9, 1, 1, 2, 2, 2, 2}, {7, 1, 1, 3, 2, 2, 2, 2}},
                       {{2, 8, 1, 1, 2, 2, 3, 1}, {1, 1, 1, 9, 2, 2, 2, 2}}};
};

/// Nothing may change if steps without tokens are put between the others, and a layer without
/// tokens between the two.
TEST_F(FiguresTest, PairsWithoutTokensAreInNone) {
  Steps with_idle;
  for (const auto& step : busy_) {
    if (!with_idle.empty()) with_idle.push_back({kIdle, kIdle, kIdle});
    with_idle.push_back({step[0], kIdle, step[1]});
  }
  const SimulateReport plain = replay(busy_, 1);
  const SimulateReport idle = replay(with_idle, 1);
  EXPECT_EQ(plain.num_pairs, 8);
  EXPECT_EQ(plain.num_empty_pairs, 0);
  EXPECT_EQ(idle.num_pairs, 8);
  EXPECT_EQ(idle.num_empty_pairs, 13);
  for (std::size_t p = 0; p < plain.policies.size(); ++p) {
    const PolicyReport& a = plain.policies[p];
    const PolicyReport& b = idle.policies[p];
    EXPECT_GT(a.imbalance.max, 1) << a.name;
    EXPECT_EQ(b.imbalance.mean, a.imbalance.mean) << a.name;
    EXPECT_EQ(b.imbalance.p50, a.imbalance.p50) << a.name;
    EXPECT_EQ(b.imbalance.p99, a.imbalance.p99) << a.name;
    EXPECT_EQ(b.gap_mean, a.gap_mean) << a.name;
    EXPECT_EQ(b.solves, a.solves) << a.name;
    EXPECT_EQ(b.moved_experts, a.moved_experts) << a.name;
    EXPECT_EQ(b.layer_mean[0], a.layer_mean[0]);
    EXPECT_EQ(b.layer_max[2], a.layer_max[1]);
    EXPECT_TRUE(std::isnan(b.layer_mean[1]));
    EXPECT_TRUE(std::isnan(b.layer_max[1]));
    for (std::size_t i = 0; i < 4; ++i) {
      EXPECT_EQ(b.over_time[2 * i], a.over_time[i]);
      EXPECT_EQ(b.rank_heat[2 * i], a.rank_heat[i]);
      if (i == 3) break;
      EXPECT_TRUE(std::isnan(b.over_time[2 * i + 1]));
      EXPECT_TRUE(std::isnan(b.rank_heat[2 * i + 1]));
    }
  }
  const auto json = nlohmann::json::parse(report_json(idle));
  EXPECT_EQ(json["trace"]["num_empty_pairs"], 13);
  EXPECT_TRUE(json["policies"][1]["over_time"][1].is_null());
  EXPECT_TRUE(json["policies"][1]["layers"][1]["mean"].is_null());
  EXPECT_THAT(report_html(idle, ""),
              HasSubstr("13 of 21 (batch, layer) pairs have no tokens and are in no figure."));
}

/// Two ranks, three layers, of which one has no tokens: 1.2 and 1.4 are the imbalances of the
/// others.
TEST_F(FiguresTest, MeanIsThatOfTheLayersWithTokens) {
  SimulateOptions options;
  options.trace = write(
      "t.jsonl",
      R"({"format":"lplb-trace","version":1,"num_layers":3,"num_logical_experts":4,"num_topk":2})"
      "\n"
      R"({"load":[[5,1,3,1],[0,0,0,0],[0,3,5,2]]})"
      "\n");
  options.num_ranks = 2;
  options.policies = {"none"};
  const SimulateReport report = simulate(options);
  EXPECT_THAT(report.policies[0].imbalance.mean, DoubleEq(1.3));
  EXPECT_EQ(report.num_empty_pairs, 1);
}

TEST_F(FiguresTest, AWindowWithoutTokensLeavesThePlacement) {
  // Layer 1 has no tokens in step 1. Its placement of step 2 is then the one of step 1, while layer
  // 0 gets a new one.
  const Steps steps = {
      {busy_[0][0], busy_[0][1]}, {busy_[1][0], kIdle}, {busy_[2][0], busy_[2][1]}};
  const SimulateReport report = replay(steps, 1);
  EXPECT_EQ(report.policies[1].rebalances, 3);
  const Steps same = {{busy_[0][0], busy_[0][1]}, {busy_[2][0], busy_[2][1]}};
  EXPECT_EQ(report.policies[1].layer_max[1], replay(same, 1).policies[1].layer_max[1]);
}

TEST_F(FiguresTest, WarmUpIsInNoFigureAndFillsTheWindow) {
  const SimulateReport all = replay(busy_, 8);
  const SimulateReport rest = replay(busy_, 8, 1);
  EXPECT_EQ(rest.num_batches, 4);
  EXPECT_EQ(rest.num_pairs, 6);
  for (std::size_t p = 0; p < all.policies.size(); ++p) {
    const PolicyReport& a = all.policies[p];
    const PolicyReport& b = rest.policies[p];
    EXPECT_TRUE(std::isnan(b.over_time[0]));
    for (std::size_t i = 1; i < 4; ++i) EXPECT_EQ(b.over_time[i], a.over_time[i]);
    EXPECT_THAT(b.imbalance.mean, DoubleEq((a.over_time[1] + a.over_time[2] + a.over_time[3]) / 3));
    EXPECT_EQ(b.rebalances, a.rebalances);  // batch 0 has none
    EXPECT_EQ(b.solves, a.solves * 3 / 4);
  }
  EXPECT_EQ(replay(busy_, 8, 2).policies[1].rebalances, all.policies[1].rebalances - 2);
  EXPECT_THAT(report_html(rest, ""), HasSubstr("The first batch is in no figure (warm-up)."));
}

/// The figures of a layer over time are those of a replay of this layer alone, also where a bucket
/// holds several batches.
TEST_F(FiguresTest, ALayerOverTimeIsThatOfTheLayerAlone) {
  Steps long_trace;
  for (int i = 0; i < 50; ++i) long_trace.insert(long_trace.end(), busy_.begin(), busy_.end());
  for (const Steps& steps : {busy_, long_trace}) {
    const SimulateReport both = replay(steps, 2);
    const std::size_t buckets = both.bucket_start.size();
    EXPECT_EQ(buckets, steps.size() == 4 ? 4U : 100U);
    for (std::size_t layer = 0; layer < 2; ++layer) {
      Steps alone;
      for (const auto& step : steps) alone.push_back({step[layer]});
      const SimulateReport one = replay(alone, 2);
      for (std::size_t p = 0; p < both.policies.size(); ++p) {
        const PolicyReport& a = both.policies[p];
        const std::span<const double> over_time = a.layer_over_time;
        const std::span<const double> heat = a.layer_rank_heat;
        EXPECT_THAT(over_time.subspan(layer * buckets, buckets),
                    ElementsAreArray(one.policies[p].over_time));
        EXPECT_THAT(heat.subspan(layer * 4 * buckets, 4 * buckets),
                    ElementsAreArray(one.policies[p].rank_heat));
      }
    }
  }
}

TEST_F(FiguresTest, ExpertLoadIsTheSumOfTheBatchesInTheFigures) {
  EXPECT_THAT(replay(busy_, 8).expert_load, ElementsAre(20, 19, 4, 5, 8, 8, 9, 7,  //
                                                        10, 4, 13, 21, 8, 8, 8, 8));
  EXPECT_THAT(replay(busy_, 8, 3).expert_load, ElementsAre(2, 8, 1, 1, 2, 2, 3, 1,  //
                                                           1, 1, 1, 9, 2, 2, 2, 2));
}

TEST_F(FiguresTest, DomainsBeginWhereTheirFirstBatchIs) {
  std::string text =
      R"({"format":"lplb-trace","version":1,"num_layers":1,"num_logical_experts":4,"num_topk":1})"
      "\n";
  for (const char* domain : {"law", "law", "law", "maths", "law"}) {
    text += nlohmann::json{{"load", {{5, 1, 3, 1}}}, {"domain", domain}}.dump() + "\n";
  }
  SimulateOptions options;
  options.trace = write("t.jsonl", text);
  options.num_ranks = 2;
  options.policies = {"none"};
  options.batch_tokens = 20;  // law: two steps and one, maths, law
  const SimulateReport report = simulate(options);
  ASSERT_EQ(report.num_batches, 4);
  ASSERT_EQ(report.domains.size(), 3U);
  EXPECT_EQ(report.domains[1].first_batch, 2);
  EXPECT_EQ(report.domains[1].name, "maths");
  EXPECT_EQ(report.domains[2].first_batch, 3);
  const auto json = nlohmann::json::parse(report_json(report));
  EXPECT_EQ(json["trace"]["domains"][1]["first_batch"], 2);
  EXPECT_TRUE(replay(busy_, 1).domains.empty());
}

TEST_F(FiguresTest, NoTokensAtAllAreRefused) {
  EXPECT_THAT(message_of<FileError>([this] {
                replay({{kIdle}, {kIdle}}, 8);
              }),
              HasSubstr("holds no tokens"));
}

TEST_F(FiguresTest, NextPlacementIsThatOfARebalanceAfterTheLastBatch) {
  // A fifth step, whatever it holds, is placed by what the replay of four steps offers.
  const SimulateReport four = replay(busy_, 2);
  for (std::size_t layer = 0; layer < 2; ++layer) {
    std::vector<double> load(8);
    for (std::size_t e = 0; e < 8; ++e) {
      load[e] = static_cast<double>(busy_[2][layer][e] + busy_[3][layer][e]);
    }
    EXPECT_EQ(four.policies[1].next_placement[layer].physical_to_logical,
              rebalance_experts(load, 1, 8, 12, 1, 1, 4).physical_to_logical);
  }
  // Without a past that has tokens, the placement in use stays.
  Steps idle = busy_;
  idle.push_back({kIdle, kIdle});
  idle.push_back({kIdle, kIdle});
  EXPECT_EQ(replay(idle, 1).policies[1].next_placement,
            replay(busy_, 1).policies[1].next_placement);
  const auto json = nlohmann::json::parse(placement_json(four, "eplb"));
  EXPECT_EQ(json["physical_to_logical"].size(), 2U);
  EXPECT_EQ(json["num_ranks"], 4);
  EXPECT_THAT(message_of<ArgumentError>([&] { placement_json(four, "cube"); }),
              HasSubstr("policy: \"cube\" was not replayed, expected one of none, eplb"));
}

}  // namespace
}  // namespace lplb
