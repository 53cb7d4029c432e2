// SPDX-License-Identifier: MIT
#include "simulate/selection.h"

#include <gmock/gmock.h>

#include <numeric>
#include <tuple>

#include "core/format.h"
#include "io/npy.h"
#include "simulate/trace_load.h"
#include "support/test_files.h"

namespace lplb {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::message_of;

TEST(FrequentValues, FindsWhatIsMoreThanATenth) {
  replay::FrequentValues values;
  for (std::uint64_t i = 0; i < 89; ++i) values.add(1000 + i);
  for (int i = 0; i < 11; ++i) values.add(7);
  EXPECT_THAT(values.frequent(), ElementsAre(std::pair(7U, 11)));
  values.add(1);  // 11 of 101 are more than a tenth, and 11 of 110 are not
  EXPECT_EQ(values.frequent().size(), 1U);
  for (std::uint64_t i = 0; i < 9; ++i) values.add(2000 + i);
  EXPECT_EQ(values.total(), 110);
  EXPECT_TRUE(values.frequent().empty());
}

TEST(FrequentValues, CountsInBoundedMemory) {
  replay::FrequentValues values;
  constexpr std::int64_t kOthers = 300'000;
  for (std::int64_t i = 0; i < kOthers; ++i) {
    values.add(static_cast<std::uint64_t>(1000 + i));
    if (i % 5 == 0) values.add(7);
  }
  const auto found = values.frequent();
  ASSERT_EQ(found.size(), 1U);
  const std::int64_t most = kOthers / 5;
  EXPECT_LE(found.at(7), most);
  EXPECT_GE(found.at(7),
            most - values.total() / static_cast<std::int64_t>(replay::FrequentValues::kMaxValues));
}

/// Three steps of 10 tokens in one layer of 4 experts, top 2. Of the 20 tokens of the last two
/// steps, 14 choose experts 0 and 1, in either order; of step 0 all choose 2 and 3.
class SelectionTest : public testing::Files {
 protected:
  SelectionTest() {
    const std::vector<std::pair<int, int>> others = {{0, 2}, {0, 3}, {1, 2},
                                                     {1, 3}, {0, 2}, {3, 0}};
    std::vector<std::int64_t> ids;
    std::string loads;
    for (int step = 0; step < 3; ++step) {
      std::vector<int> load(4, 0);
      for (int token = 0; token < 10; ++token) {
        int first = 2, second = 3;
        if (step > 0 && token < 7) {
          first = token % 2;
          second = 1 - first;
        } else if (step > 0) {
          std::tie(first, second) = others[static_cast<std::size_t>(3 * (step - 1) + token - 7)];
        }
        ids.insert(ids.end(), {first, second});
        ++load[static_cast<std::size_t>(first)];
        ++load[static_cast<std::size_t>(second)];
      }
      loads += formatted(
          R"({{"step":{},"domain":"a","num_tokens":10,"num_topk":2,"first_layer":0,"load":)"
          R"([[{},{},{},{}]]}})"
          "\n",
          step, load[0], load[1], load[2], load[3]);
    }
    write("t.load.jsonl", loads);
    options_.trace = write("t.topk.npy", io::npy_bytes("<i4", {30, 1, 2}, ids));
    options_.num_ranks = 2;
    options_.redundants = 0;
    options_.policies = {"none"};
  }

  SimulateOptions options_;
};

TEST_F(SelectionTest, SaysWhichTokensRepeat) {
  options_.skip_steps = 1;
  const SimulateReport report = simulate(options_);
  EXPECT_EQ(report.num_batches, 2);
  EXPECT_EQ(report.num_tokens, 20);
  ASSERT_TRUE(report.repeats.has_value());
  EXPECT_EQ(report.repeats->num_choices, 1);
  EXPECT_EQ(report.repeats->num_tokens, 14);
  EXPECT_EQ(report.repeats->share, 0.7);
  EXPECT_THAT(report_json(report), HasSubstr("\"share\": 0.7"));
  EXPECT_THAT(report_html(report, ""), HasSubstr("choose the very same experts"));
  // With step 0, a third of the tokens make a second choice.
  options_.skip_steps = 0;
  const SimulateReport all = simulate(options_);
  EXPECT_EQ(all.repeats->num_choices, 2);
  EXPECT_EQ(all.repeats->num_tokens, 24);
  EXPECT_THAT(report_html(all, ""), HasSubstr("make one of 2 choices of experts"));
}

TEST_F(SelectionTest, DropsThem) {
  options_.skip_steps = 1;
  options_.drop_repeats = true;
  const SimulateReport report = simulate(options_);
  EXPECT_EQ(report.num_tokens, 6);
  EXPECT_EQ(report.num_batches, 2);
  EXPECT_EQ(report.repeats->num_tokens, 14);
  EXPECT_EQ(report.repeats->share, 0.7);
}

TEST_F(SelectionTest, DroppedTokensAreInNoLoad) {
  options_.drop_repeats = true;
  replay::Selection selection(options_, {});
  std::vector<TraceStep> steps;
  for (TraceStep step; selection.next(step);) steps.push_back(step);
  ASSERT_EQ(steps.size(), 3U);
  EXPECT_EQ(steps[0].num_tokens, 0);
  EXPECT_THAT(steps[0].load, ElementsAre(0, 0, 0, 0));
  for (const TraceStep& step : {steps[1], steps[2]}) {
    EXPECT_EQ(step.num_tokens, 3);
    ASSERT_EQ(step.topk_idx.size(), 6U);
    std::vector<Load> load(4, 0);
    for (const Index expert : step.topk_idx) ++load[static_cast<std::size_t>(expert)];
    EXPECT_EQ(step.load, load);
  }
}

TEST_F(SelectionTest, RefusesWhatLeavesNothing) {
  const auto problem = [this] { return message_of<ArgumentError>([&] { simulate(options_); }); };
  options_.skip_steps = 3;
  EXPECT_THAT(problem(), HasSubstr("skip_steps: 3 leaves none of the 3 steps"));
  options_.skip_steps = 1;
  options_.warm_up = 2;
  EXPECT_THAT(problem(), HasSubstr("warm_up: 2 leaves none of the 2 batches"));
  options_.warm_up = 0;
  options_.drop_repeats = true;
  options_.trace = path("t.load.jsonl");
  EXPECT_THAT(problem(), HasSubstr("drop_repeats: needs the experts of every token"));
  options_.trace = "synthetic:W0_balanced";
  EXPECT_THAT(problem(), HasSubstr("drop_repeats"));
}

TEST_F(SelectionTest, AlsoForTheLoadThatAPlacementIsMadeFrom) {
  options_.skip_steps = 1;
  const replay::TraceLoad all = replay::read_trace_load(options_, 0, false);
  EXPECT_EQ(std::accumulate(all.load.begin(), all.load.end(), 0.0), 40);
  EXPECT_EQ(all.repeats->num_tokens, 14);
  options_.drop_repeats = true;
  const replay::TraceLoad last = replay::read_trace_load(options_, 1, false);
  EXPECT_EQ(std::accumulate(last.load.begin(), last.load.end(), 0.0), 6);
  EXPECT_EQ(last.num_batches, 2);
  EXPECT_EQ(last.num_summed, 1);
  options_.skip_steps = 3;
  EXPECT_THAT(message_of<ArgumentError>([&] { replay::read_trace_load(options_, 0, false); }),
              HasSubstr("skip_steps: 3 leaves none of the 3 steps of " + options_.trace));
}

}  // namespace
}  // namespace lplb
