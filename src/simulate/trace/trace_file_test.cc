// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>

#include <functional>
#include <random>

#include "lplb/files.h"
#include "support/test_files.h"

namespace lplb {
namespace {

using ::testing::HasSubstr;
using testing::message_of;
using testing::recorded;
using ::testing::StartsWith;

class TraceFileTest : public testing::Files {};

void expect_same(const std::vector<TraceStep>& got, const std::vector<TraceStep>& wanted) {
  ASSERT_EQ(got.size(), wanted.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    EXPECT_EQ(got[i].load, wanted[i].load) << i;
    EXPECT_EQ(got[i].num_tokens, wanted[i].num_tokens) << i;
    EXPECT_EQ(got[i].domain, wanted[i].domain) << i;
    EXPECT_EQ(got[i].source_load, wanted[i].source_load) << i;
  }
}

TEST_F(TraceFileTest, ARecordedTraceKeepsItsLoads) {
  TraceInfo info;
  const std::vector<TraceStep> steps =
      read_trace_file(recorded("deepseek-v2-lite.load.jsonl"), &info);
  ASSERT_FALSE(steps.empty());
  const std::string path = this->path("copy.jsonl");
  write_trace_file(info, steps, path);
  TraceInfo back;
  expect_same(read_trace_file(path, &back), steps);
  EXPECT_EQ(back.format, "lplb-trace");
  EXPECT_EQ(back.name, info.name);
  EXPECT_EQ(back.num_layers, info.num_layers);
  EXPECT_EQ(back.first_layer, info.first_layer);
  EXPECT_EQ(back.num_topk, info.num_topk);
}

TEST_F(TraceFileTest, StepsWithDroppedTokensAndSourcesAreReadAgain) {
  TraceInfo info;
  info.num_layers = 2;
  info.layers = {3, 9};
  info.num_logical_experts = 2;
  info.num_topk = 1;
  info.num_sources = 2;
  TraceStep full{.num_tokens = 5, .load = {2, 3, 5, 0}, .source_load = {1, 1, 1, 2, 5, 0, 0, 0}};
  full.domain = "law";
  // The second layer dropped a token.
  TraceStep dropped{.num_tokens = 5, .load = {2, 3, 4, 0}, .source_load = {2, 0, 0, 3, 4, 0, 0, 0}};
  const std::string path = this->path("a.jsonl");
  const std::vector<TraceStep> steps = {full, dropped};
  write_trace_file(info, steps, path);
  TraceInfo back;
  expect_same(read_trace_file(path, &back), steps);
  EXPECT_EQ(back.layers, info.layers);
}

TEST_F(TraceFileTest, WhatIsWrittenCanBeRead) {
  // Random steps, of which some fit: each is refused, or is read again as it was.
  std::mt19937 random(7);
  const std::string path = this->path("random.jsonl");
  int written = 0;
  int refused = 0;
  for (int trial = 0; trial < 300; ++trial) {
    TraceInfo info;
    info.num_layers = static_cast<Index>(random() % 3);
    info.num_logical_experts = static_cast<Index>(1 + random() % 3);
    info.num_topk = static_cast<Index>(1 + random() % 2);
    TraceStep step;
    const std::size_t size = static_cast<std::size_t>(info.num_layers) *
                             static_cast<std::size_t>(info.num_logical_experts);
    step.load.resize(size + (random() % 8 == 0 ? 1 : 0));
    for (Load& load : step.load) load = static_cast<Load>(random() % 4) - (random() % 64 == 0);
    try {
      write_trace_file(info, std::span(&step, 1), path);
    } catch (const ArgumentError&) {
      ++refused;
      continue;
    }
    ++written;
    const std::vector<TraceStep> back = read_trace_file(path);
    ASSERT_EQ(back.size(), 1U);
    EXPECT_EQ(back[0].load, step.load);
  }
  EXPECT_GT(written, 50);
  EXPECT_GT(refused, 50);
}

TEST_F(TraceFileTest, WhatDoesNotFitIsNamed) {
  TraceInfo info;
  info.num_layers = 1;
  info.num_logical_experts = 2;
  info.num_topk = 1;
  const TraceStep good{.num_tokens = 3, .load = {1, 2}};
  const auto refused = [&](const std::function<void(TraceInfo&, TraceStep&)>& change) {
    TraceInfo bad = info;
    TraceStep step = good;
    change(bad, step);
    return message_of<ArgumentError>(
        [&] { write_trace_file(bad, std::span(&step, 1), path("no.jsonl")); });
  };
  EXPECT_THAT(refused([](auto& i, auto&) { i.num_layers = 0; }), StartsWith("num_layers: 0"));
  EXPECT_THAT(refused([](auto& i, auto&) { i.num_topk = 3; }), StartsWith("num_topk: 3"));
  EXPECT_THAT(refused([](auto& i, auto&) { i.layers = {1, 2}; }), StartsWith("layers: "));
  EXPECT_THAT(refused([](auto& i, auto&) { i.layer_stride = 0; }), StartsWith("layer_stride: 0"));
  EXPECT_THAT(refused([](auto& i, auto&) { i.num_sources = 2; }), HasSubstr("source_load has 0"));
  EXPECT_THAT(refused([](auto&, auto& s) { s.load = {1}; }), HasSubstr("[0].load has 1 entries"));
  EXPECT_THAT(refused([](auto&, auto& s) { s.load = {1, -2}; }), HasSubstr("has the load -2"));
  EXPECT_THAT(refused([](auto& i, auto& s) {
                i.num_sources = 1;
                s.source_load = {1, 1};
              }),
              HasSubstr("does not sum to the load 2 of expert 1"));
  EXPECT_THAT(refused([](auto& i, auto& s) {
                i.num_topk = 2;
                s.load = {1, 5};
              }),
              HasSubstr("has 5 tokens on one expert"));
  EXPECT_FALSE(std::filesystem::exists(path("no.jsonl")));
}

}  // namespace
}  // namespace lplb
