// SPDX-License-Identifier: MIT
#include "bench/bench_main.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "bench/workloads.h"
#include "lplb/error.h"

namespace lplb::bench {
namespace {

using ::testing::HasSubstr;

class BenchMain : public ::testing::Test {
 protected:
  std::string path_ = ::testing::TempDir() + "lplb_bench_" +
                      ::testing::UnitTest::GetInstance()->current_test_info()->name() + ".json";
  void TearDown() override { std::filesystem::remove(path_); }
  nlohmann::json read() const { return nlohmann::json::parse(std::ifstream(path_)); }
};

std::string message_of(const std::vector<std::string>& args) {
  try {
    run_benchmarks(args);
  } catch (const ArgumentError& error) {
    return error.what();
  }
  return "";
}

TEST_F(BenchMain, RefusesBadOptions) {
  EXPECT_THAT(message_of({"--speed", "1"}), HasSubstr("--speed: is not an option"));
  EXPECT_THAT(message_of({"--json"}), HasSubstr("--json: has no value"));
  EXPECT_THAT(message_of({"--min-time", "soon"}), HasSubstr("--min-time: \"soon\""));
  EXPECT_THAT(message_of({"--min-time=0"}), HasSubstr("--min-time: \"0\""));
  EXPECT_THAT(message_of({"--min-time=1s"}), HasSubstr("--min-time: \"1s\""));
  EXPECT_THAT(message_of({"--filter", "("}), HasSubstr("--filter: \"(\""));
  EXPECT_THAT(message_of({"--filter", "no such name"}), HasSubstr("matches no benchmark"));
}

TEST_F(BenchMain, WritesJsonOfWhatTheFilterMatches) {
  ASSERT_EQ(run_benchmarks(
                {"--filter", "^tables/(cube8x2|EP64.64)$", "--min-time", "0.001", "--json", path_}),
            0);
  const nlohmann::json rows = read().at("benchmarks");
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0].at("name"), "tables/cube8x2");
  EXPECT_EQ(rows[1].at("name"), "tables/EP64+64");
  EXPECT_GT(rows[0].at("items_per_second").get<double>(), 0);
}

TEST_F(BenchMain, PrintsATable) {
  ::testing::internal::CaptureStdout();
  const int status = run_benchmarks({"--filter=^solve/cube8x2/cut$", "--min-time=0.001"});
  const std::string table = ::testing::internal::GetCapturedStdout();
  EXPECT_EQ(status, 0);
  EXPECT_THAT(table, HasSubstr("time/op"));
  EXPECT_THAT(table, HasSubstr("solve/cube8x2/cut"));
}

TEST_F(BenchMain, ExportsTheInstancesThatItSolves) {
  ASSERT_EQ(run_benchmarks({"--export-instances", path_}), 0);
  const nlohmann::json workloads = read().at("workloads");
  ASSERT_EQ(workloads.size(), testing::workload_names().size());
  for (const nlohmann::json& exported : workloads) {
    const testing::Workload& w = workload(exported.at("name"));
    EXPECT_EQ(exported.at("placement").at("num_ranks"), w.placement.num_ranks);
    EXPECT_EQ(exported.at("placement").at("physical_to_logical"), w.placement.physical_to_logical);
    EXPECT_EQ(exported.at("load"), w.loads);
    EXPECT_EQ(w.loads.size(), std::size_t{kNumBatches});
  }
}

}  // namespace
}  // namespace lplb::bench
