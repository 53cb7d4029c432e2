// SPDX-License-Identifier: MIT
#include "simulate/batcher.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <limits>
#include <map>
#include <numeric>

#include "support/test_files.h"

namespace lplb::replay {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::message_of;
using testing::recorded;

/// A trace whose steps the test gives.
class Given : public TraceReader {
 public:
  Given(Index experts, std::vector<TraceStep> steps) : steps_(std::move(steps)) {
    info_.num_layers = 1;
    info_.num_logical_experts = experts;
    info_.num_topk = 1;
  }
  const TraceInfo& info() const override { return info_; }
  bool next(TraceStep& step) override {
    if (at_ == steps_.size()) return false;
    step = steps_[at_];
    step.step = static_cast<std::int64_t>(at_++);
    return true;
  }
  TraceInfo info_;

 private:
  std::vector<TraceStep> steps_;
  std::size_t at_ = 0;
};

TraceStep step_of(std::string domain, std::vector<Load> load) {
  TraceStep step;
  step.domain = std::move(domain);
  step.num_tokens = std::accumulate(load.begin(), load.end(), Load{0});
  step.load = std::move(load);
  return step;
}

std::vector<Batch> batches_of(TraceReader& reader, std::int64_t tokens, Index num_ranks = 2) {
  Batcher batcher(reader, tokens, num_ranks);
  std::vector<Batch> batches;
  for (Batch batch; batcher.next(batch);) batches.push_back(batch);
  return batches;
}

std::vector<std::int64_t> tokens_of(const std::vector<Batch>& batches) {
  std::vector<std::int64_t> tokens;
  for (const Batch& batch : batches) tokens.push_back(batch.num_tokens);
  return tokens;
}

TEST(BatcherTest, StepsAsRecorded) {
  Given trace(2, {step_of("a", {1, 2}), step_of("a", {0, 0}), step_of("b", {5, 0})});
  const std::vector<Batch> batches = batches_of(trace, 0);
  EXPECT_THAT(tokens_of(batches), ElementsAre(3, 0, 5));
  EXPECT_THAT(batches[0].load, ElementsAre(1, 2));
  EXPECT_THAT(batches[0].source_load, IsEmpty());
}

TEST(BatcherTest, MergesWithinADomain) {
  Given trace(1, {step_of("a", {4}), step_of("a", {5}), step_of("a", {12}), step_of("a", {3}),
                  step_of("b", {3}), step_of("b", {19}), step_of("a", {2})});
  // 4 + 5 < 10, so 12 joins them. The last 3 tokens of "a" are a batch. 3 + 19 are one batch,
  // because a step of 19 < 2 * 10 is not cut.
  EXPECT_THAT(tokens_of(batches_of(trace, 10)), ElementsAre(21, 3, 22, 2));
}

TEST(BatcherTest, CutsLargeSteps) {
  Given trace(1, {step_of("a", {3}), step_of("a", {32}), step_of("a", {20}), step_of("a", {9})});
  // 32 is cut into 10, 11 and 11, and the 10 joins the 3. 20 is cut into 10 and 10.
  EXPECT_THAT(tokens_of(batches_of(trace, 10)), ElementsAre(13, 11, 11, 10, 10, 9));
}

TEST(BatcherTest, PiecesOfLoadsAddUp) {
  std::vector<Load> load(500);
  for (std::size_t e = 0; e < load.size(); ++e) load[e] = e % 3 == 0 ? 1 : static_cast<Load>(e);
  Given trace(500, {step_of("a", load)});
  const std::vector<Batch> batches = batches_of(trace, 20000);
  ASSERT_EQ(batches.size(), 4u);
  std::vector<Load> sum(500, 0);
  for (const Batch& batch : batches) {
    Load tokens = 0;
    for (std::size_t e = 0; e < 500; ++e) {
      ASSERT_GE(batch.load[e], 0);
      ASSERT_NEAR(static_cast<double>(batch.load[e]), static_cast<double>(load[e]) / 4, 1.0);
      sum[e] += batch.load[e];
      tokens += batch.load[e];
    }
    // Rounding goes up or down, so no piece collects the tokens that the others lose.
    EXPECT_NEAR(static_cast<double>(tokens), static_cast<double>(batch.num_tokens), 12.0);
  }
  EXPECT_EQ(sum, load);
}

TEST(BatcherTest, KeepsEveryTokenOfTheRecordedLoads) {
  const auto add = [](std::vector<Load>& sum, const std::vector<Load>& load) {
    sum.resize(load.size(), 0);
    for (std::size_t i = 0; i < load.size(); ++i) sum[i] += load[i];
  };
  for (const char* file : {"deepseek-v2-lite.load.jsonl", "deepseek-v2-lite.topk.npy",
                           "qwen3-30b-a3b.load.jsonl", "qwen3-30b-a3b.topk.npy"}) {
    std::vector<Load> expected;
    std::int64_t before = 0;
    const auto recount = open_trace(recorded(file));
    for (TraceStep step; recount->next(step); before += step.num_tokens) add(expected, step.load);
    for (const std::int64_t tokens : {64, 1024, 1 << 30}) {
      const auto reader = open_trace(recorded(file));
      std::vector<Load> got;
      std::int64_t after = 0;
      for (const Batch& batch : batches_of(*reader, tokens, 8)) {
        after += batch.num_tokens;
        add(got, batch.load);
        if (reader->info().format == "topk.npy") {
          ASSERT_EQ(std::accumulate(batch.load.begin(), batch.load.end(), Load{0}),
                    batch.num_tokens * reader->info().num_layers * reader->info().num_topk);
        }
      }
      EXPECT_EQ(before, after) << file;
      EXPECT_EQ(got, expected) << file << " " << tokens;
    }
  }
}

// Batches at decode size hold the experts of consecutive tokens as they were recorded.
TEST(BatcherTest, SmallBatchesAreConsecutiveRecordedTokens) {
  constexpr std::int64_t kTokens = 64;
  for (const char* file : {"deepseek-v2-lite.topk.npy", "qwen3-30b-a3b.topk.npy"}) {
    const auto recount = open_trace(recorded(file));
    const TraceInfo info = recount->info();
    const auto experts = static_cast<std::size_t>(info.num_logical_experts);
    const auto layers = static_cast<std::size_t>(info.num_layers);
    const auto row = layers * static_cast<std::size_t>(info.num_topk);
    std::vector<Index> rows;  // of all steps
    std::vector<std::int64_t> domain_ends;
    std::string domain;
    for (TraceStep step; recount->next(step);) {
      if (step.domain != domain && !rows.empty()) {
        domain_ends.push_back(static_cast<std::int64_t>(rows.size() / row));
      }
      domain = step.domain;
      rows.insert(rows.end(), step.topk_idx.begin(), step.topk_idx.end());
    }
    domain_ends.push_back(static_cast<std::int64_t>(rows.size() / row));

    const auto reader = open_trace(recorded(file));
    Batcher batcher(*reader, kTokens, 8);
    std::int64_t at = 0;
    for (Batch batch; batcher.next(batch);) {
      std::vector<Load> load(layers * experts, 0);
      for (std::size_t i = static_cast<std::size_t>(at) * row;
           i < static_cast<std::size_t>(at + batch.num_tokens) * row; ++i) {
        const std::size_t layer = i % row / static_cast<std::size_t>(info.num_topk);
        ++load[layer * experts + static_cast<std::size_t>(rows[i])];
      }
      ASSERT_EQ(batch.load, load) << file << " from token " << at;
      at += batch.num_tokens;
      ASSERT_LT(batch.num_tokens, 3 * kTokens);
      if (batch.num_tokens < kTokens) {
        ASSERT_TRUE(std::ranges::binary_search(domain_ends, at)) << file << " at " << at;
      }
    }
    EXPECT_EQ(at, domain_ends.back());
    EXPECT_EQ(batcher.num_cut_loads(), 0);
  }
}

TEST(BatcherTest, CountsStepsThatAreCutInProportion) {
  Given trace(2, {step_of("a", {12, 8}), step_of("a", {9, 0}), step_of("a", {20, 20})});
  Batcher batcher(trace, 10, 2);
  for (Batch batch; batcher.next(batch);) {
  }
  EXPECT_EQ(batcher.num_cut_loads(), 2);
}

TEST(BatcherTest, BatchCountsOfTheRecordedLoads) {
  const auto reader = open_trace(recorded("deepseek-v2-lite.load.jsonl"));
  EXPECT_EQ(batches_of(*reader, 4096).size(), 8u);  // as data/traces/README.md says
}

/// A step with a routing of one expert for each token: `rows` are the tokens' experts.
TraceStep rows_of(std::string domain, std::vector<Index> rows, Index experts) {
  TraceStep step;
  step.domain = std::move(domain);
  step.num_tokens = static_cast<std::int64_t>(rows.size());
  step.load.assign(static_cast<std::size_t>(experts), 0);
  for (const Index e : rows) ++step.load[static_cast<std::size_t>(e)];
  step.topk_idx = std::move(rows);
  return step;
}

TEST(BatcherTest, HomesAreConsecutiveRowsOfTheBatch) {
  Given trace(3, {rows_of("a", {0, 1}, 3), rows_of("a", {2, 2, 0, 1}, 3)});
  const std::vector<Batch> batches = batches_of(trace, 6);  // rows 0 1 2 | 2 0 1
  ASSERT_EQ(batches.size(), 1u);
  EXPECT_THAT(batches[0].load, ElementsAre(2, 2, 2));
  EXPECT_THAT(batches[0].source_load, ElementsAre(1, 1, 1, 1, 1, 1));
}

TEST(BatcherTest, RowsAreCutExactly) {
  Given trace(3, {rows_of("a", {0, 0, 1, 2, 2}, 3)});
  const std::vector<Batch> batches = batches_of(trace, 2);
  ASSERT_EQ(batches.size(), 2u);
  EXPECT_THAT(batches[0].load, ElementsAre(2, 0, 0));
  EXPECT_THAT(batches[1].load, ElementsAre(0, 1, 2));
}

TEST(BatcherTest, TheTraceMayTellHomes) {
  TraceStep ragged = rows_of("a", {0, 1, 1, 1}, 2);
  ragged.source_tokens = {1, 3};
  Given trace(2, {ragged, ragged});
  std::vector<Batch> batches = batches_of(trace, 8);
  ASSERT_EQ(batches.size(), 1u);
  EXPECT_THAT(batches[0].source_load, ElementsAre(2, 0, 0, 6));

  Given again(2, {ragged});
  batches = batches_of(again, 2);  // rows 0 | 1, then rows 1 1, which are both of rank 1
  ASSERT_EQ(batches.size(), 2u);
  EXPECT_THAT(batches[0].source_load, ElementsAre(1, 0, 0, 1));
  EXPECT_THAT(batches[1].source_load, ElementsAre(0, 0, 0, 2));
}

TEST(BatcherTest, SourcesAreFoldedOntoRanks) {
  TraceStep step = step_of("a", {10, 6});
  step.source_load = {1, 0, 2, 1, 3, 2, 4, 3};  // four sources
  Given trace(2, {step, step});
  trace.info_.num_sources = 4;
  std::vector<Batch> batches = batches_of(trace, 32);
  ASSERT_EQ(batches.size(), 1u);
  EXPECT_THAT(batches[0].source_load, ElementsAre(6, 2, 14, 10));
  EXPECT_THAT(batches[0].load, ElementsAre(20, 12));

  Given other(2, {step});
  other.info_.num_sources = 4;
  EXPECT_THAT(batches_of(other, 0, 3)[0].source_load, IsEmpty());
}

TEST(BatcherTest, PiecesOfSourcesAddUpToTheirLoad) {
  TraceStep step = step_of("a", {11, 7});
  step.source_load = {5, 4, 6, 3};
  Given trace(2, {step});
  trace.info_.num_sources = 2;
  std::vector<Load> sum(4, 0);
  for (const Batch& batch : batches_of(trace, 5)) {
    for (std::size_t e = 0; e < 2; ++e) {
      EXPECT_EQ(batch.load[e], batch.source_load[e] + batch.source_load[2 + e]);
    }
    for (std::size_t i = 0; i < 4; ++i) sum[i] += batch.source_load[i];
  }
  EXPECT_EQ(sum, step.source_load);
}

TEST(BatcherTest, RefusesSumsThatDoNotFit) {
  constexpr Load kHuge = std::numeric_limits<Load>::max();
  TraceStep step = step_of("a", {kHuge, 0});
  step.num_tokens = 1;
  Given trace(2, {step, step});
  EXPECT_THAT(message_of<FileError>([&] { batches_of(trace, 2); }), HasSubstr("loads"));
  step.load = {1, 1};
  step.num_tokens = kHuge - 1;
  TraceStep other = step;
  other.num_tokens = 5;
  Given tokens(2, {step, other});
  EXPECT_THAT(message_of<FileError>([&] { batches_of(tokens, kHuge); }), HasSubstr("tokens"));
}

}  // namespace
}  // namespace lplb::replay
