// SPDX-License-Identifier: MIT
#include "solve/ipm/cuda.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "lplb/backend.h"
#include "support/device_vector.h"
#include "support/instances.h"

// Compares the kernel on a device with its twin on the CPU, and with flow's exact optimum.
// bench/ipm_cuda_bench.cu measures how long it takes.
namespace lplb::solvers {
namespace {

using lplb::testing::adversarial_instances;
using lplb::testing::Instance;
using lplb::testing::random_instance;

class IpmCuda : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!cuda_support().missing.empty()) GTEST_SKIP() << cuda_support().missing;
  }
};

/// Solves on the device through the front end's buffers. Returns false if no size takes the
/// instance.
bool check(const Instance& instance, const SolveOptions& options) {
  SCOPED_TRACE(instance.name);
  const SplitProblem problem(instance.placement);
  const Tables& t = problem.tables();
  if (t.live_ranks.size() > 144 || t.place.size() > std::size_t{kMaxIpmVariables}) return false;
  Workspace cpu;
  Workspace gpu;
  take_loads(t, instance.load, cpu.buffers());
  take_loads(t, instance.load, gpu.buffers());
  solve_ipm(t, options, cpu.buffers());
  solve_ipm_cuda(t, options, gpu.buffers());
  const Buffers& a = cpu.buffers();
  const Buffers& b = gpu.buffers();
  if (a.total == 0) return true;
  EXPECT_EQ(b.ipm.result.status, a.ipm.result.status);
  EXPECT_NEAR(static_cast<double>(b.steps), static_cast<double>(a.steps), 2);
  EXPECT_NEAR(b.ipm.result.max_load, a.ipm.result.max_load,
              2 * options.tolerance * a.ipm.result.max_load);
  EXPECT_NEAR(b.ipm.result.lower_bound, a.ipm.result.lower_bound,
              2 * options.tolerance * a.ipm.result.max_load);
  for (Index k = 0; k < t.num_replicated(); ++k) {
    Load sum = 0;
    for (Index p = t.place_begin[k]; p < t.place_begin[k + 1]; ++p) {
      EXPECT_GE(b.take[p], 0);
      sum += b.take[p];
    }
    EXPECT_EQ(sum, b.want[k]);
  }
  // The proof agrees with the exact optimum, and so does the split that it is for.
  const Split best = solve(instance.placement, instance.load, {.solver = Solver::kFlow});
  EXPECT_LE(t.cost.compare(b.bound, best.max_level), 0);
  for (const Index g : t.live_ranks) {
    if (b.status == SolveStatus::kOptimal) {
      EXPECT_LE(t.cost.compare({b.rank_load[g], g}, best.max_level), 0);
    }
  }
  return true;
}

TEST_F(IpmCuda, AgreesOnWorkloads) {
  for (const std::string& name : lplb::testing::workload_names()) {
    const auto workload = lplb::testing::make_workload(name, 20);
    for (const auto& load : workload.loads) {
      for (const double tolerance : {1e-4, 1e-7}) {
        EXPECT_TRUE(check({name, workload.placement, load},
                          {.solver = Solver::kIpm, .tolerance = tolerance}));
      }
    }
  }
}

TEST_F(IpmCuda, AgreesOnAdversarialAndRandomInstances) {
  for (const Instance& instance : adversarial_instances()) check(instance, {});
  int checked = 0;
  for (std::uint64_t seed = 0; seed < 400; ++seed) {
    checked += check(random_instance(seed, {.max_ranks = seed % 4 == 0 ? 70 : 12}), {});
  }
  EXPECT_EQ(checked, 400);
}

/// A batch on the device, solved by replays of one graph.
class Batch {
 public:
  Batch(const SplitProblem& problem, const std::vector<std::vector<Load>>& loads)
      : device_(problem.tables(), static_cast<int>(loads.size())) {
    std::vector<Load> want;
    std::vector<Load> fixed;
    Workspace workspace;
    for (const auto& load : loads) {
      Buffers& b = workspace.buffers();
      take_loads(problem.tables(), load, b);
      want.insert(want.end(), b.want.begin(), b.want.end());
      for (const Index g : problem.tables().live_ranks) fixed.push_back(b.fixed_load[g]);
    }
    LPLB_CUDA_CHECK(cudaMemcpy(const_cast<Load*>(device_.args().want), want.data(),
                               want.size() * sizeof(Load), cudaMemcpyHostToDevice));
    LPLB_CUDA_CHECK(cudaMemcpy(const_cast<Load*>(device_.args().fixed), fixed.data(),
                               fixed.size() * sizeof(Load), cudaMemcpyHostToDevice));
  }

  IpmDevice& device() { return device_; }

  /// The outcomes [instances] of the last launch; takes() has [instances, places].
  std::vector<IpmOutcome> outcomes(std::size_t count) {
    std::vector<IpmOutcome> result(count);
    LPLB_CUDA_CHECK(cudaMemcpy(result.data(), device_.args().outcome, count * sizeof(IpmOutcome),
                               cudaMemcpyDeviceToHost));
    return result;
  }
  std::vector<Load> takes(std::size_t count) {
    std::vector<Load> result(count * static_cast<std::size_t>(device_.args().num_variables));
    LPLB_CUDA_CHECK(cudaMemcpy(result.data(), device_.args().take, result.size() * sizeof(Load),
                               cudaMemcpyDeviceToHost));
    return result;
  }

  /// Solves `instances` twice, by two replays of one graph.
  void replay(int instances, const SolveOptions& options) {
    const device::Stream stream;
    lplb::testing::CapturedGraph graph(stream.get());
    device_.launch(instances, options, stream.get());
    graph.end();
    graph.replay();
    graph.replay();
  }

 private:
  IpmDevice device_;
};

TEST_F(IpmCuda, BatchesAreDeterministicAndEqualToOneByOne) {
  const auto workload = lplb::testing::make_workload("EP32+32", 64);
  const SplitProblem problem(workload.placement);
  Batch batch(problem, workload.loads);
  batch.device().launch(64, {.tolerance = 1e-4}, nullptr);
  const std::vector<Load> takes = batch.takes(64);
  batch.device().launch(64, {.tolerance = 1e-4}, nullptr);
  EXPECT_EQ(batch.takes(64), takes);
  const std::size_t places = problem.tables().place.size();
  for (std::size_t i = 0; i < 64; i += 13) {
    Batch one(problem, {workload.loads[i]});
    one.device().launch(1, {.tolerance = 1e-4}, nullptr);
    const std::vector<Load> take = one.takes(1);
    EXPECT_TRUE(std::equal(take.begin(), take.end(),
                           takes.begin() + static_cast<std::ptrdiff_t>(i * places)));
  }
}

TEST_F(IpmCuda, ReplaysOfAGraphConvergeAndWarmStartsSaveIterations) {
  for (const std::string& name : lplb::testing::workload_names()) {
    const auto workload = lplb::testing::make_workload(name, 40);
    const SplitProblem problem(workload.placement);
    SolveOptions options{.solver = Solver::kIpm, .tolerance = 1e-4};
    for (const auto& load : workload.loads) {
      Batch batch(problem, {load});
      options.warm_start = false;
      batch.replay(1, options);
      const IpmOutcome cold = batch.outcomes(1)[0];
      EXPECT_EQ(cold.status, IpmOutcomeStatus::kConverged);
      options.warm_start = true;
      batch.replay(1, options);
      EXPECT_EQ(batch.outcomes(1)[0].status, IpmOutcomeStatus::kConverged);
      EXPECT_LE(batch.outcomes(1)[0].iterations, cold.iterations);
    }
  }
}

}  // namespace
}  // namespace lplb::solvers
