// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>

#include <algorithm>
#include <numeric>

#include "lplb/trace.h"
#include "support/test_files.h"

namespace lplb {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::message_of;

std::vector<TraceStep> make(const std::string& name, const SyntheticOptions& options) {
  const auto reader = open_trace("synthetic:" + name, options);
  std::vector<TraceStep> steps;
  for (TraceStep step; reader->next(step);) steps.push_back(step);
  return steps;
}

SyntheticOptions small() {
  SyntheticOptions options;
  options.num_logical_experts = 32;
  options.num_topk = 4;
  options.num_layers = 2;
  options.num_steps = 8;
  options.num_tokens = 256;
  return options;
}

Load sum(const TraceStep& step, std::size_t layer, Index begin, Index end) {
  const auto first = step.load.begin() + static_cast<std::ptrdiff_t>(layer) * 32;
  return std::accumulate(first + begin, first + end, Load{0});
}

TEST(SyntheticTest, EveryTokenHasDistinctExpertsAndLoadsAreTheirCounts) {
  const SyntheticOptions options = small();
  ASSERT_EQ(synthetic_names().size(), 8u);
  for (const std::string& name : synthetic_names()) {
    const std::vector<TraceStep> steps = make(name, options);
    ASSERT_EQ(steps.size(), 8u) << name;
    for (const TraceStep& step : steps) {
      std::vector<Load> counted(64, 0);
      for (auto id = step.topk_idx.begin(); id != step.topk_idx.end(); id += 4) {
        std::vector<Index> row(id, id + 4);
        std::sort(row.begin(), row.end());
        ASSERT_EQ(std::unique(row.begin(), row.end()), row.end()) << name;
        ASSERT_GE(row[0], 0);
        ASSERT_LT(row[3], 32);
        const auto layer = (id - step.topk_idx.begin()) / 4 % 2;
        for (const Index e : row) ++counted[static_cast<std::size_t>(layer * 32 + e)];
      }
      ASSERT_EQ(step.load, counted) << name;
      ASSERT_EQ(sum(step, 1, 0, 32), 256 * 4) << name;
    }
  }
}

TEST(SyntheticTest, FollowsFromNameSeedAndStepAlone) {
  SyntheticOptions options = small();
  for (const std::string& name : synthetic_names()) {
    const std::vector<TraceStep> steps = make(name, options);
    SyntheticOptions other = options;
    other.num_steps = 3;
    other.num_sources = 5;
    other.num_layers = 1;
    const std::vector<TraceStep> fewer = make(name, other);
    for (std::size_t i = 0; i < 3; ++i) {
      EXPECT_TRUE(std::equal(fewer[i].load.begin(), fewer[i].load.end(), steps[i].load.begin()));
    }
    if (name == "W0_balanced") continue;
    other = options;
    other.seed = 1;
    EXPECT_NE(make(name, other)[0].load, steps[0].load) << name;
    EXPECT_NE(steps[0].load, steps[1].load) << name;
    EXPECT_FALSE(
        std::equal(steps[0].load.begin(), steps[0].load.begin() + 32, steps[0].load.begin() + 32))
        << "layers differ";
  }
  EXPECT_NE(make("W1_hot_expert_set", options)[0].load, make("W2_hot_rank", options)[0].load);
}

/// Pins the generator, because other numbers would silently change published figures. The expected
/// numbers come from a second implementation, in Python.
TEST(SyntheticTest, NumbersAreTheSameOnEveryPlatform) {
  SyntheticOptions options;
  options.num_logical_experts = 8;
  options.num_topk = 2;
  options.num_tokens = 64;
  options.num_steps = 1;
  options.seed = 7;
  EXPECT_THAT(make("W2_hot_rank", options)[0].load, ElementsAre(53, 51, 2, 4, 5, 6, 1, 6));
  EXPECT_THAT(make("W7_burst", options)[0].load, ElementsAre(14, 21, 18, 21, 18, 9, 12, 15));
}

TEST(SyntheticTest, BalancedIsExactlyBalanced) {
  for (const TraceStep& step : make("W0_balanced", small())) EXPECT_THAT(step.load, Each(32));
}

TEST(SyntheticTest, HotExpertsAreHot) {
  // Three of four tokens choose from a quarter of the experts. The fourth token chooses from all
  // experts, so a quarter of its choices fall there too.
  for (const char* name : {"W1_hot_expert_set", "W2_hot_rank"}) {
    for (const TraceStep& step : make(name, small())) {
      EXPECT_NEAR(static_cast<double>(sum(step, 0, 0, 8)) / 1024, 0.8125, 0.05) << name;
      EXPECT_NEAR(static_cast<double>(sum(step, 1, 16, 24)) / 1024, 0.0625, 0.05) << name;
    }
  }
  for (const TraceStep& step : make("W3_spread_hot_experts", small())) {
    Load even = 0;
    for (std::size_t e = 0; e < 32; e += 2) even += step.load[e];
    EXPECT_NEAR(static_cast<double>(even) / 1024, 0.875, 0.05);
  }
}

TEST(SyntheticTest, HalfTheExpertsGetNothing) {
  for (const TraceStep& step : make("W5_zero_expert_rank", small())) {
    EXPECT_EQ(sum(step, 0, 0, 16), 0);
    EXPECT_EQ(*std::min_element(step.load.begin() + 16, step.load.begin() + 32) > 0, true);
  }
}

TEST(SyntheticTest, HotspotMovesEveryThreeSteps) {
  SyntheticOptions options = small();
  options.num_steps = 15;
  const std::vector<TraceStep> steps = make("W6_rotating_hotspot", options);
  for (std::size_t i = 0; i < steps.size(); ++i) {
    const auto base = static_cast<Index>(i / 3 % 4 * 8);
    EXPECT_GT(sum(steps[i], 0, base, base + 8), 750) << i;
  }
}

TEST(SyntheticTest, OneStepInFourBursts) {
  const std::vector<TraceStep> steps = make("W7_burst", small());
  for (std::size_t i = 0; i < steps.size(); ++i) {
    const double share = static_cast<double>(sum(steps[i], 0, 0, 8)) / 1024;
    EXPECT_NEAR(share, i % 4 == 3 ? 0.625 : 0.25, 0.05) << i;
  }
}

TEST(SyntheticTest, SourcesAreRagged) {
  SyntheticOptions options = small();
  options.num_sources = 4;
  EXPECT_THAT(make("W4_source_ragged", options)[0].source_tokens, ElementsAre(25, 51, 77, 103));
  EXPECT_TRUE(make("W1_hot_expert_set", options)[0].source_tokens.empty());
}

TEST(SyntheticTest, MarksItself) {
  const auto reader = open_trace("synthetic:W7_burst", small());
  EXPECT_TRUE(reader->info().synthetic);
  EXPECT_EQ(reader->info().name, "synthetic:W7_burst");
  EXPECT_EQ(reader->info().num_steps, 8);
}

TEST(SyntheticTest, RefusesBadOptions) {
  const auto error = [](const std::string& name, auto change) {
    SyntheticOptions options = small();
    change(options);
    return message_of<ArgumentError>([&] { open_trace(name, options); });
  };
  const auto same = [](SyntheticOptions&) {};
  EXPECT_THAT(error("synthetic:W8", same), HasSubstr("W0_balanced"));
  EXPECT_THAT(error("synthetic:", same), HasSubstr("W7_burst"));
  const char* name = "synthetic:W5_zero_expert_rank";
  EXPECT_THAT(error(name, [](auto& o) { o.num_topk = 33; }), HasSubstr("num_topk"));
  EXPECT_THAT(error(name, [](auto& o) { o.num_topk = 17; }), HasSubstr("16 experts"));
  EXPECT_THAT(error(name, [](auto& o) { o.num_topk = 0; }), HasSubstr("num_topk"));
  EXPECT_THAT(error(name, [](auto& o) { o.num_layers = 0; }), HasSubstr("num_layers"));
  EXPECT_THAT(error(name, [](auto& o) { o.num_steps = 0; }), HasSubstr("num_steps"));
  EXPECT_THAT(error(name, [](auto& o) { o.num_tokens = -1; }), HasSubstr("num_tokens"));
  EXPECT_THAT(error(name, [](auto& o) { o.num_tokens = INT64_MAX; }), HasSubstr("num_tokens"));
  EXPECT_THAT(error(name, [](auto& o) { o.num_logical_experts = 5000; }), HasSubstr("5000"));
  EXPECT_THAT(error(name, [](auto& o) { o.num_sources = 0; }), HasSubstr("num_sources"));
  SyntheticOptions most = small();
  most.num_sources = kMaxRanks;
  EXPECT_EQ(open_trace(name, most)->info().num_steps, most.num_steps);
}

}  // namespace
}  // namespace lplb
