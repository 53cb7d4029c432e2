// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include "lplb/simulate.h"
#include "support/test_files.h"

// simulate() makes the same report on both backends.
namespace lplb {
namespace {

using lplb::testing::message_of;

SimulateOptions small_hot() {
  SimulateOptions options;
  options.trace = "synthetic:W1_hot_expert_set";
  options.synthetic.num_logical_experts = 64;
  options.synthetic.num_layers = 3;
  options.synthetic.num_steps = 50;
  options.synthetic.num_tokens = 256;
  options.policies = {"none", "eplb", "eplb+lplb", "cube+lplb", "cube+even"};
  return options;
}

/// The report's JSON and page without what differs from run to run.
std::string text_of(SimulateReport report) {
  for (PolicyReport& policy : report.policies) policy.solve_us = {};
  report.settings.num_threads = 1;
  return report_json(report) + report_html(report, "lplb");
}

class SimulateCuda : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!cuda_support().missing.empty()) GTEST_SKIP() << "no GPU: " << cuda_support().missing;
  }
  /// Returns the report of kCuda, which must equal that of kCpu.
  static SimulateReport simulate_both(SimulateOptions options) {
    const SimulateReport cpu = simulate(options);
    EXPECT_EQ(cpu.num_cuda_solves, 0);
    options.backend = Backend::kCuda;
    const SimulateReport cuda = simulate(options);
    EXPECT_EQ(text_of(cuda), text_of(cpu));
    EXPECT_EQ(cuda.num_solves, cpu.num_solves);
    return cuda;
  }
};

TEST_F(SimulateCuda, ReportIsThatOfTheCpu) {
  for (const Index every : {1, 7, 1000}) {
    for (const int threads : {1, 5}) {
      SimulateOptions options = small_hot();
      options.rebalance_every = every;
      options.num_threads = threads;
      const SimulateReport report = simulate_both(options);
      EXPECT_EQ(report.num_solves, 50 * 3 * 3);
      EXPECT_EQ(report.num_cuda_solves, report.num_solves);
      EXPECT_GT(report.policies[2].solve_us.p50, 0);
    }
  }
}

TEST_F(SimulateCuda, BlocksAreFollowedUpWhereTheyEnd) {
  SimulateOptions options = small_hot();
  options.synthetic.num_layers = 1;
  options.synthetic.num_steps = 4500;  // blocks of at most 4096 batches
  options.synthetic.num_tokens = 16;
  options.rebalance_every = 100;
  EXPECT_EQ(simulate_both(options).num_cuda_solves, 4500 * 3);
}

TEST_F(SimulateCuda, SolverThatTheDeviceDoesNotTakeRunsOnTheCpu) {
  SimulateOptions options = small_hot();
  options.synthetic.num_steps = 5;
  options.solver = Solver::kIpm;
  EXPECT_EQ(simulate_both(options).num_cuda_solves, 0);
}

TEST(SimulateCudaMissing, IsSaidByTheReplay) {
  if (cuda_support().missing.empty()) GTEST_SKIP() << "there is a device";
  SimulateOptions options = small_hot();
  options.backend = Backend::kCuda;
  EXPECT_EQ(message_of<CudaError>([&] { simulate(options); }),
            "backend cuda: " + cuda_support().missing);
}

TEST(SimulateCpu, CountsItsSolves) {
  const SimulateReport report = simulate(small_hot());
  EXPECT_EQ(report.num_solves, 50 * 3 * 3);  // batches, layers, placements
  EXPECT_EQ(report.num_cuda_solves, 0);
}

}  // namespace
}  // namespace lplb
