// SPDX-License-Identifier: MIT
#pragma once

#include <gtest/gtest.h>

#include <csignal>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <vector>

#include "exchange/libraries/nccl_test_comm.h"
#include "exchange/peer/test_group.h"
#include "support/process_group.h"

// Tests whose ranks are processes. What a rank does is a scenario. Each rank is a process of its
// own and exits with 0 if all went well, with kUnsupported if the machine lacks something (the
// process prints what), and otherwise with 1.
namespace lplb::testing {

inline constexpr int kUnsupported = 77;

/// Says which check of a scenario failed. The process that started the ranks sees it as exit status
/// 1.
class Trouble : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};
inline void require(bool ok, const std::string& what) {
  if (!ok) throw Trouble(what);
}

inline AllGatherBytes gather_of(ProcessGroup& group) {
  return [&group](std::span<const std::byte> mine) { return group.all_gather(mine); };
}

inline void check_rounds(VirtualRank& rank, std::int64_t rounds) {
  rank.wait();
  const DeviceExchangeStats stats = rank.stats();
  require(stats.rounds == rounds, "rounds: " + std::to_string(stats.rounds));
  require(stats.complete() == rounds, "complete: " + std::to_string(stats.complete()));
  require(rank.log().wrong == 0, "wrong counts: " + std::to_string(rank.log().wrong));
}

/// Runs a scenario and returns the exit status of its process.
using Scenario = void (*)(const std::string& name, ProcessGroup& group);
inline int run_rank(const ProcessRole& role, Scenario run) try {
  ::alarm(100);  // a rank that hangs ends by itself
  ProcessGroup group(role.rank, role.num_ranks, role.file);
  run(role.scenario, group);
  return 0;
} catch (const ExchangeError& error) {
  std::fprintf(stderr, "rank %d, %s: %s\n", role.rank, role.scenario.c_str(), error.what());
  return kUnsupported;
} catch (const std::exception& error) {
  std::fprintf(stderr, "rank %d, %s: %s\n", role.rank, role.scenario.c_str(), error.what());
  return 1;
}

/// main() calls this: it runs a rank if the process was started as one, otherwise the tests.
inline int run_main(int argc, char** argv, Scenario run) {
  const ProcessRole role = ProcessRole::of_this_process();
  if (!role.scenario.empty()) return run_rank(role, run);
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}

/// Tests that need two GPUs. The parameter is the name of a scenario.
class TwoDevices : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (cuda_support().devices.size() < 2) {
      GTEST_SKIP() << "needs two GPUs, found " << cuda_support().devices.size();
    }
  }
};

/// Expects that the scenario of every rank ends well. Skips the test if the machine lacks
/// something.
inline void expect_well(const std::string& scenario, int num_ranks) {
  for (const int status : run_ranks(scenario, num_ranks)) {
    ASSERT_TRUE(WIFEXITED(status)) << "ended by signal " << WTERMSIG(status);
    if (WEXITSTATUS(status) == kUnsupported) GTEST_SKIP() << "see what the ranks said above";
    EXPECT_EQ(WEXITSTATUS(status), 0);
  }
}

/// Expects that rank 1 of the scenario kills itself, and that rank 0 ends well all the same.
inline void expect_one_killed(const std::string& scenario) {
  const std::vector<int> statuses = run_ranks(scenario, 2);
  ASSERT_TRUE(WIFEXITED(statuses[0]));
  EXPECT_EQ(WEXITSTATUS(statuses[0]), 0);
  EXPECT_TRUE(WIFSIGNALED(statuses[1]) && WTERMSIG(statuses[1]) == SIGKILL);
}

/// The name of a test with a scenario as its parameter. Tests of several GPUs end in multi_cuda.
inline std::string scenario_name(const ::testing::TestParamInfo<const char*>& test) {
  return std::string(test.param) + "_multi_cuda";
}

}  // namespace lplb::testing
