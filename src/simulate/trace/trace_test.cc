// SPDX-License-Identifier: MIT
#include "lplb/trace.h"

#include <gmock/gmock.h>
#include <sys/stat.h>

#include <chrono>
#include <thread>

#include "io/npy.h"
#include "support/test_files.h"

namespace lplb {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::message_of;
using testing::recorded;

std::vector<TraceStep> read_all(TraceReader& reader) {
  std::vector<TraceStep> steps;
  for (TraceStep step; reader.next(step);) steps.push_back(step);
  return steps;
}

std::string error_of(const std::string& path) {
  return message_of<FileError>([&] {
    const auto reader = open_trace(path);
    read_all(*reader);
  });
}

constexpr const char* kHeader =
    R"({"format":"lplb-trace","version":1,"num_layers":2,"num_logical_experts":3,"num_topk":2})"
    "\n";
constexpr const char* kStep = R"({"load":[[1,2,3],[3,0,3]],"num_tokens":3})"
                              "\n";
constexpr const char* kLoadStep =
    R"({"step":0,"domain":"law","num_tokens":3,"num_topk":2,"first_layer":1,)"
    R"("load":[[1,2,3],[3,0,3]]})"
    "\n";

class TraceTest : public testing::Files {};

TEST_F(TraceTest, ReadsRecordedLoads) {
  const auto reader = open_trace(recorded("deepseek-v2-lite.load.jsonl"));
  const TraceInfo& info = reader->info();
  EXPECT_EQ(info.name, "deepseek-v2-lite.load.jsonl");
  EXPECT_EQ(info.format, "load.jsonl");
  EXPECT_FALSE(info.synthetic);
  EXPECT_EQ(info.num_layers, 26);
  EXPECT_EQ(info.first_layer, 1);
  EXPECT_EQ(info.layer_stride, 1);
  EXPECT_EQ(info.num_logical_experts, 64);
  EXPECT_EQ(info.num_topk, 6);
  const auto begin = std::chrono::steady_clock::now();
  const std::vector<TraceStep> steps = read_all(*reader);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(5));
  ASSERT_EQ(steps.size(), 213u);
  std::int64_t tokens = 0;
  for (const TraceStep& step : steps) tokens += step.num_tokens;
  EXPECT_EQ(tokens, 33279);
  EXPECT_EQ(steps[127].domain, "law");
  EXPECT_EQ(steps[126].domain, "intent");
  EXPECT_EQ(steps[212].step, 212);
}

TEST_F(TraceTest, ReadsRecordedRoutings) {
  for (const auto& [stem, layers, first, stride, steps] :
       {std::tuple{"deepseek-v2-lite", 6, 1, 5, 213}, std::tuple{"qwen3-30b-a3b", 16, 0, 3, 3}}) {
    const auto routing = open_trace(recorded(stem) + ".topk.npy");
    const auto loads = open_trace(recorded(stem) + ".load.jsonl");
    const TraceInfo& info = routing->info();
    EXPECT_EQ(info.format, "topk.npy");
    EXPECT_EQ(info.num_layers, layers);
    EXPECT_EQ(info.first_layer, first);
    EXPECT_EQ(info.layer_stride, stride);
    TraceStep kept, whole;
    int count = 0;
    for (; routing->next(kept); ++count) {
      ASSERT_TRUE(loads->next(whole));
      ASSERT_EQ(kept.num_tokens, whole.num_tokens);
      ASSERT_EQ(kept.topk_idx.size(),
                static_cast<std::size_t>(kept.num_tokens * layers * info.num_topk));
      const auto experts = static_cast<std::ptrdiff_t>(info.num_logical_experts);
      for (int i = 0; i < layers; ++i) {
        const auto mine = kept.load.begin() + i * experts;
        ASSERT_TRUE(std::equal(mine, mine + experts, whole.load.begin() + i * stride * experts));
      }
    }
    EXPECT_EQ(count, steps);
  }
}

TEST_F(TraceTest, ReadsOwnFormat) {
  const auto reader = open_trace(write(
      "a.jsonl",
      R"({"format":"lplb-trace","version":1,"name":"mine","synthetic":true,"num_layers":1,)"
      R"("num_logical_experts":2,"num_topk":1,"first_layer":3,"layer_stride":2,"num_sources":2})"
      "\n"
      R"({"load":[[2,3]],"domain":"law","source_load":[[[2,0],[0,3]]]})"
      "\r\n"
      R"({"num_tokens":1,"load":[[0,1]],"source_load":[[[0,0],[0,1]]]})"
      "\n"
      R"({"load":[[0,1000000000000000000]],"source_load":[[[0,0],[0,1000000000000000000]]]})"));
  EXPECT_EQ(reader->info().name, "mine");
  EXPECT_TRUE(reader->info().synthetic);
  EXPECT_EQ(reader->info().first_layer, 3);
  EXPECT_EQ(reader->info().layer_stride, 2);
  EXPECT_EQ(reader->info().num_sources, 2);
  const std::vector<TraceStep> steps = read_all(*reader);
  ASSERT_EQ(steps.size(), 3u);
  EXPECT_EQ(steps[0].num_tokens, 5);
  EXPECT_EQ(steps[0].domain, "law");
  EXPECT_THAT(steps[0].source_load, ElementsAre(2, 0, 0, 3));
  EXPECT_EQ(steps[1].step, 1);
  EXPECT_EQ(steps[1].domain, "");
  EXPECT_THAT(steps[1].load, ElementsAre(0, 1));
  EXPECT_THAT(steps[2].source_load, ElementsAre(0, 0, 0, 1'000'000'000'000'000'000));
}

TEST_F(TraceTest, LayersMayBeNumberedOneByOne) {
  const auto trace = [&](const std::string& more) {
    return write("a.jsonl", R"({"format":"lplb-trace","version":1,"num_layers":3,)"
                            R"("num_logical_experts":1,"num_topk":1,)" +
                                more + "}\n{\"load\":[[1],[1],[1]]}\n");
  };
  const auto reader = open_trace(trace(R"("layers":[1,2,4])"));
  EXPECT_THAT(reader->info().layers, ElementsAre(1, 2, 4));
  EXPECT_EQ(reader->info().layer_number(2), 4);
  EXPECT_THAT(trace_header_line(reader->info()), HasSubstr(R"("layers":[1,2,4],)"));
  EXPECT_THAT(error_of(trace(R"("layers":[1,2])")), HasSubstr("expected a list of 3"));
  EXPECT_THAT(error_of(trace(R"("layers":[1,1,2])")),
              HasSubstr("key layers[1]: is 1, expected an integer from 2"));
  EXPECT_THAT(error_of(trace(R"("layers":[1,2,4],"first_layer":1)")), HasSubstr("says the same"));
}

TEST_F(TraceTest, WritesWhatItReads) {
  TraceInfo info;
  info.name = "quote \" and \xff";
  info.num_layers = 2;
  info.first_layer = 4;
  info.num_logical_experts = 2;
  info.num_topk = 1;
  info.num_sources = 2;
  TraceStep step;
  step.num_tokens = 5;
  step.domain = "a\nb";
  step.load = {2, 3, 5, 0};
  step.source_load = {1, 1, 1, 2, 5, 0, 0, 0};
  const auto reader =
      open_trace(write("a.jsonl", trace_header_line(info) + trace_step_line(info, step)));
  EXPECT_EQ(reader->info().first_layer, 4);
  EXPECT_THAT(reader->info().name, HasSubstr("quote \" and "));
  const std::vector<TraceStep> steps = read_all(*reader);
  ASSERT_EQ(steps.size(), 1u);
  EXPECT_EQ(steps[0].load, step.load);
  EXPECT_EQ(steps[0].source_load, step.source_load);
  EXPECT_EQ(steps[0].domain, step.domain);
  EXPECT_EQ(steps[0].num_tokens, 5);
}

TEST_F(TraceTest, ReadsFromPipes) {
  ASSERT_EQ(mkfifo(path("pipe").c_str(), 0600), 0);
  std::jthread writer([&] { write("pipe", std::string(kHeader) + kStep + kStep); });
  const auto reader = open_trace(path("pipe"));
  EXPECT_EQ(read_all(*reader).size(), 2u);
}

TEST_F(TraceTest, RefusesWhatIsNoFile) {
  EXPECT_THAT(error_of(path("absent")), HasSubstr("absent"));
  EXPECT_THAT(error_of(path("")), HasSubstr("folder"));
  EXPECT_THAT(error_of(write("empty", "")), HasSubstr("is empty"));
}

struct Bad {
  std::string content;
  std::vector<std::string> expected;  // each of them is in the message
};

TEST_F(TraceTest, RefusesBadLines) {
  const std::string header = kHeader, step = kStep, load = kLoadStep;
  const std::string deep(100000, '[');
  const std::vector<Bad> table = {
      {"hello\n", {"line 1"}},
      {"[1,2]\n", {"line 1", "array", "object"}},
      {std::string("\x7f\x45\x4c\x46\0\0\1", 7), {"line 1"}},
      {deep, {"nested"}},
      {header + "\n" + step, {"line 2", "blank"}},
      {header + step + step.substr(0, 20), {"line 3"}},
      {header + step + R"({"load":)" + deep + "\n", {"line 3"}},
      {header + R"({"load":[[1,2,3],[3,0,3]],"loda":1})", {"line 2", "loda"}},
      {header + R"({"load":[[1,2,3],[3,0,3]],"load":[[1,2,3],[3,0,3]]})", {"line 2", "load"}},
      {header + R"({"load":[[1,2,3]]})", {"line 2", "[1, 3]", "[2, 3]"}},
      {header + R"({"load":[[1,2],[3,0]]})", {"line 2", "[2, 2]", "[2, 3]"}},
      {header + R"({"load":[[1,2,3],[3,0]]})", {"line 2", "load"}},
      {header + R"({"load":[[1,2,3],[3,0,-3]]})", {"line 2", "load", "-3"}},
      {header + R"({"load":[[1,2,3],[3,0,2.5]]})", {"line 2", "load"}},
      {header + R"({"load":[[1,2,3],[3,0,1e400]]})", {"line 2"}},
      {header + R"({"load":[[1,2,3],[3,0,NaN]]})", {"line 2"}},
      {header + R"({"load":[[1,2,3],[3,0,9223372036854775808]]})", {"line 2", "load"}},
      {header + R"({"load":[[1,2,3],[9223372036854775807,1,0]]})", {"line 2", "load[1]", "2^63"}},
      {header + R"({"load":[[1,2,3],[3,0,4]],"num_tokens":3})",
       {"line 2", "load[1]", "7", "3 * 2"}},
      {header + R"({"load":[[1,2,3],[3,0,3]],"num_tokens":9223372036854775807})",
       {"line 2", "load[0]"}},
      {header + R"({"num_tokens":3})", {"line 2", "load"}},
      {header + R"({"load":[[1,2,3],[3,0,3]],"domain":7})", {"line 2", "domain"}},
      {header + R"({"load":[[1,2,3],[3,0,3]],"source_load":[]})", {"line 2", "num_sources"}},
      {R"({"format":"lplb-trace","version":2,"extra":1})", {"line 1", "version", "2"}},
      {R"({"format":"other","version":1})", {"line 1", "format", "other"}},
      {R"({"format":"lplb-trace","version":1,"num_layers":1,"num_logical_experts":2})",
       {"line 1", "num_topk"}},
      {R"({"format":"lplb-trace","version":1,"num_layers":1,"num_logical_experts":2,"num_topk":3})",
       {"line 1", "num_topk", "3"}},
      {R"({"format":"lplb-trace","version":1,"num_layers":0,"num_logical_experts":2,"num_topk":1})",
       {"line 1", "num_layers"}},
      {R"({"format":"lplb-trace","version":1,"layers":1})", {"line 1", "layers"}},
      {R"({"format":"lplb-trace","version":1,"synthetic":1,"num_layers":1,)"
       R"("num_logical_experts":2,"num_topk":1})",
       {"line 1", "synthetic"}},
      {load.substr(0, 30), {"line 1"}},
      {load + load, {"line 2", "step"}},
      {R"({"load":[[1,2]]})", {"line 1"}},
      {R"({"step":0,"domain":"a","num_tokens":3,"num_topk":2,"first_layer":1,"load":[[1,2,3]],)"
       R"("x":1})",
       {"line 1", "x"}},
      {R"({"step":0,"domain":"a","num_tokens":3,"num_topk":2,"first_layer":1,"load":[[1,2,4]]})",
       {"line 1", "load[0]", "7", "3 * 2"}},
      {load + R"({"step":1,"domain":"a","num_tokens":3,"num_topk":3,"first_layer":1,)"
              R"("load":[[1,2,6],[3,3,3]]})",
       {"line 2", "num_topk"}},
  };
  for (const Bad& bad : table) {
    const std::string message = error_of(write("bad.jsonl", bad.content));
    EXPECT_THAT(message, HasSubstr("bad.jsonl")) << bad.content.substr(0, 200);
    for (const std::string& part : bad.expected) {
      EXPECT_THAT(message, HasSubstr(part)) << bad.content.substr(0, 200);
    }
  }
}

TEST_F(TraceTest, RefusesSourcesThatDisagree) {
  const std::string header =
      R"({"format":"lplb-trace","version":1,"num_layers":1,"num_logical_experts":2,"num_topk":1,)"
      R"("num_sources":2})"
      "\n";
  for (const auto& [step, part] : {
           std::pair{R"({"load":[[2,3]]})", "source_load"},
           std::pair{R"({"load":[[2,3]],"source_load":[[[2,0],[0,2]]]})", "expert 1"},
           std::pair{R"({"load":[[2,3]],"source_load":[[[3,0],[0,3]]]})", "expert 0"},
           std::pair{R"({"load":[[2,3]],"source_load":[[[2,3]]]})", "source_load[0]"},
           std::pair{R"({"load":[[2,3]],"source_load":[[2,3]]})", "source_load[0]"},
           std::pair{R"({"load":[[2,3]],"source_load":{}})", "source_load"},
       }) {
    const std::string message = error_of(write("bad.jsonl", header + step));
    EXPECT_THAT(message, HasSubstr("line 2")) << step;
    EXPECT_THAT(message, HasSubstr(part)) << step;
  }
}

TEST_F(TraceTest, LinesMayBeLongerThanTheBuffer) {
  TraceInfo info;
  info.num_layers = 700;
  info.num_logical_experts = 1024;
  info.num_topk = 1;
  TraceStep step;
  step.num_tokens = 1024 * 99;
  step.load.assign(700 * 1024, 99);  // a line has 2 MB
  const std::string line = trace_step_line(info, step);
  const auto reader = open_trace(write("a.jsonl", trace_header_line(info) + line + line));
  const std::vector<TraceStep> steps = read_all(*reader);
  ASSERT_EQ(steps.size(), 2u);
  EXPECT_EQ(steps[1].load, step.load);
}

/// Reads the file. If it is refused, the message must name a file of `folder`.
void read_or_refuse(const std::string& path, const std::string& folder) {
  try {
    const auto reader = open_trace(path);
    for (const TraceStep& step : read_all(*reader)) {
      ASSERT_EQ(step.load.size(), static_cast<std::size_t>(reader->info().num_layers) *
                                      static_cast<std::size_t>(reader->info().num_logical_experts));
    }
  } catch (const FileError& error) {
    ASSERT_THAT(error.what(), HasSubstr(folder));
  }
}

TEST_F(TraceTest, EveryChangedByteIsReadOrRefused) {
  const std::string own = std::string(kHeader) + kStep;
  for (const std::string& good : {own, std::string(kLoadStep)}) {
    for (std::size_t i = 0; i < good.size(); ++i) {
      for (const char c : std::string_view("\0\n\"[{9-\xff", 8)) {
        std::string bad = good;
        bad[i] = c;
        read_or_refuse(write("bad.jsonl", bad), path(""));
      }
      read_or_refuse(write("bad.jsonl", good.substr(0, i)), path(""));
    }
  }
}

TEST_F(TraceTest, NoExpertHasMoreTokensThanTheStep) {
  const auto own = [&](const std::string& step) {
    return error_of(write(
        "a.jsonl",
        R"({"format":"lplb-trace","version":1,"num_layers":2,"num_logical_experts":4,"num_topk":3})"
        "\n" +
            step));
  };
  EXPECT_THAT(own(R"({"load":[[3,3,3,0],[7,1,1,0]]})"),
              HasSubstr("line 2: key load[1]: expert 0 has 7 tokens, but the step has 3"));
  EXPECT_THAT(own(R"({"load":[[3,3,3,0],[2,2,1,4]],"num_tokens":3})"),
              HasSubstr("key load[1]: expert 3 has 4 tokens, but the step has 3"));
  EXPECT_THAT(error_of(write("b.jsonl", R"({"step":0,"domain":"law","num_tokens":3,"num_topk":2,)"
                                        R"("first_layer":1,"load":[[1,2,3],[4,0,2]]})")),
              HasSubstr("line 1: key load[1]: expert 0 has 4 tokens, but the step has 3"));
  // Sums that are no multiple of num_topk may be dropped tokens: 10 tokens, of which one is
  // dropped.
  const auto reader = open_trace(write(
      "c.jsonl",
      R"({"format":"lplb-trace","version":1,"num_layers":1,"num_logical_experts":3,"num_topk":2})"
      "\n"
      R"({"load":[[10,5,4]]})"));
  EXPECT_EQ(read_all(*reader)[0].num_tokens, 10);
}

/// Two steps, of two tokens and of one token. Of the layers 0 to 3, layers 1 and 3 are kept.
class TopkTest : public TraceTest {
 protected:
  const std::string loads_ =
      R"({"step":0,"domain":"a","num_tokens":2,"num_topk":1,"first_layer":5,)"
      R"("load":[[2,0,0],[1,1,0],[0,0,2],[0,1,1]]})"
      "\n"
      R"({"step":1,"domain":"b","num_tokens":1,"num_topk":1,"first_layer":5,)"
      R"("load":[[1,0,0],[0,1,0],[0,1,0],[0,0,1]]})"
      "\n";
  const std::vector<std::int64_t> ids_ = {1, 2, 0, 1, 1, 2};

  std::string write_ids(const std::vector<std::int64_t>& shape,
                        const std::vector<std::int64_t>& ids) const {
    return write("t.topk.npy", io::npy_bytes("<i4", shape, ids));
  }
};

TEST_F(TopkTest, ReadsRoutings) {
  write("t.load.jsonl", loads_);
  const auto reader = open_trace(write_ids({3, 2, 1}, ids_));
  EXPECT_EQ(reader->info().num_layers, 2);
  EXPECT_EQ(reader->info().first_layer, 6);
  EXPECT_EQ(reader->info().layer_stride, 2);
  const std::vector<TraceStep> steps = read_all(*reader);
  ASSERT_EQ(steps.size(), 2u);
  EXPECT_THAT(steps[0].topk_idx, ElementsAre(1, 2, 0, 1));
  EXPECT_THAT(steps[0].load, ElementsAre(1, 1, 0, 0, 1, 1));
  EXPECT_THAT(steps[1].topk_idx, ElementsAre(1, 2));
  EXPECT_EQ(steps[1].domain, "b");
  EXPECT_THAT(steps[1].source_tokens, IsEmpty());
  TraceStep step = steps[1];
  step.source_tokens = {1};  // as a step of another reader has
  step.source_load = {1};
  open_trace(path("t.topk.npy"))->next(step);
  EXPECT_THAT(step.source_tokens, IsEmpty());
  EXPECT_THAT(step.source_load, IsEmpty());
}

TEST_F(TopkTest, RefusesWhatDoesNotFit) {
  EXPECT_THAT(error_of(write_ids({3, 2, 1}, ids_)), HasSubstr("t.load.jsonl beside it"));
  write("t.load.jsonl", loads_);
  EXPECT_THAT(error_of(write_ids({6, 1}, ids_)), HasSubstr("2 dimensions"));
  EXPECT_THAT(error_of(write_ids({3, 1, 2}, ids_)), HasSubstr("num_topk (1)"));
  EXPECT_THAT(error_of(write_ids({2, 2, 1}, {1, 2, 0, 1})), HasSubstr("0 tokens are left"));
  EXPECT_THAT(error_of(write_ids({4, 2, 1}, {1, 2, 0, 1, 1, 2, 0, 0})),
              HasSubstr("1 tokens are left"));
  EXPECT_THAT(error_of(write_ids({3, 2, 1}, {1, 2, 0, 3, 1, 2})),
              HasSubstr("token 1 of step 0: expert 3"));
  EXPECT_THAT(error_of(write_ids({3, 2, 1}, {1, 2, 1, 1, 1, 2})), HasSubstr("step 0, layer 0"));
  EXPECT_THAT(error_of(write_ids({3, 2, 1}, {1, 2, 0, 1, 1, 1})), HasSubstr("step 1, layer 1"));
  const std::string whole = io::npy_bytes("<i4", {3, 2, 1}, ids_);
  EXPECT_THAT(error_of(write("t.topk.npy", whole.substr(0, whole.size() - 1))),
              HasSubstr("t.topk.npy"));
  write("t.load.jsonl", "");
  EXPECT_THAT(error_of(write_ids({3, 2, 1}, ids_)), HasSubstr("is empty"));
}

TEST_F(TopkTest, EveryChangedByteIsReadOrRefused) {
  write("t.load.jsonl", loads_);
  const std::string good = io::npy_bytes("<i4", {3, 2, 1}, ids_);
  for (std::size_t i = 0; i < good.size(); ++i) {
    for (const char c : std::string_view("\0\n9-\xff", 5)) {
      std::string bad = good;
      bad[i] = c;
      read_or_refuse(write("t.topk.npy", bad), path(""));
    }
    read_or_refuse(write("t.topk.npy", good.substr(0, i)), path(""));
  }
}

TEST_F(TopkTest, LayersAtUnequalDistancesKeepTheirNumbers) {
  write("t.load.jsonl", R"({"step":0,"domain":"a","num_tokens":1,"num_topk":1,"first_layer":5,)"
                        R"("load":[[1,0,0],[0,1,0],[1,0,0],[0,0,1]]})"
                        "\n");
  const auto reader = open_trace(write_ids({1, 3, 1}, {0, 1, 2}));
  EXPECT_THAT(reader->info().layers, ElementsAre(5, 6, 8));
  EXPECT_EQ(reader->info().layer_number(2), 8);
}

}  // namespace
}  // namespace lplb
