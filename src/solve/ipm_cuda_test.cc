// SPDX-License-Identifier: MIT
#include "solve/ipm_cuda.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "lplb/backend.h"
#include "support/instances.h"

// The kernel on a device against its twin on the CPU and against flow's exact optimum; and how long
// it takes, from a replayed graph.
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

/// Solves on the device through the front end's buffers; false where no size takes the instance.
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
  // The proof holds against the exact optimum, and so does what it is proven for.
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

  /// [instances] and [instances, places] of the last launch.
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

  /// Microseconds of each of `replays` replays of a graph with one launch of `instances`.
  std::vector<float> time(int instances, const SolveOptions& options, int replays) {
    cudaStream_t stream = nullptr;
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t exec = nullptr;
    cudaEvent_t events[2];
    LPLB_CUDA_CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    for (cudaEvent_t& event : events) LPLB_CUDA_CHECK(cudaEventCreate(&event));
    LPLB_CUDA_CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    device_.launch(instances, options, stream);
    LPLB_CUDA_CHECK(cudaStreamEndCapture(stream, &graph));
    LPLB_CUDA_CHECK(cudaGraphInstantiate(&exec, graph, 0));
    constexpr int kLaunches = 20;  // between two events, so that these weigh little
    std::vector<float> times;
    for (int i = 0; i < replays; ++i) {
      LPLB_CUDA_CHECK(cudaEventRecord(events[0], stream));
      for (int j = 0; j < kLaunches; ++j) LPLB_CUDA_CHECK(cudaGraphLaunch(exec, stream));
      LPLB_CUDA_CHECK(cudaEventRecord(events[1], stream));
      LPLB_CUDA_CHECK(cudaEventSynchronize(events[1]));
      float milliseconds = 0;
      LPLB_CUDA_CHECK(cudaEventElapsedTime(&milliseconds, events[0], events[1]));
      if (i > 0) times.push_back(1000 * milliseconds / kLaunches);
    }
    for (const cudaEvent_t event : events) LPLB_CUDA_CHECK(cudaEventDestroy(event));
    LPLB_CUDA_CHECK(cudaGraphExecDestroy(exec));
    LPLB_CUDA_CHECK(cudaGraphDestroy(graph));
    LPLB_CUDA_CHECK(cudaStreamDestroy(stream));
    return times;
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

TEST_F(IpmCuda, ReplaysOfAGraphAndTheirTimes) {
  fmt::print("{:<16} {:>10} {:>10} {:>10} {:>10} {:>12}\n", "ipm, 1e-4", "iterations", "median us",
             "p99 us", "warm us", "us of 1024");
  for (const std::string& name : lplb::testing::workload_names()) {
    constexpr int kBatches = 40;
    const auto workload = lplb::testing::make_workload(name, kBatches);
    const SplitProblem problem(workload.placement);
    SolveOptions options{.solver = Solver::kIpm, .tolerance = 1e-4};
    std::vector<float> times;
    std::vector<float> warm_times;
    int iterations = 0;
    for (const auto& load : workload.loads) {
      Batch batch(problem, {load});
      options.warm_start = false;
      for (const float us : batch.time(1, options, 6)) times.push_back(us);
      const IpmOutcome cold = batch.outcomes(1)[0];
      EXPECT_EQ(cold.status, IpmOutcomeStatus::kConverged);
      iterations += cold.iterations;
      options.warm_start = true;
      for (const float us : batch.time(1, options, 3)) warm_times.push_back(us);
      EXPECT_EQ(batch.outcomes(1)[0].status, IpmOutcomeStatus::kConverged);
      EXPECT_LE(batch.outcomes(1)[0].iterations, cold.iterations);
    }
    std::vector<std::vector<Load>> many;
    for (int i = 0; i < 1024; ++i) many.push_back(workload.loads[i % kBatches]);
    options.warm_start = false;
    const std::vector<float> all = Batch(problem, many).time(1024, options, 3);
    std::sort(times.begin(), times.end());
    std::sort(warm_times.begin(), warm_times.end());
    fmt::print("{:<16} {:>10.2f} {:>10.2f} {:>10.2f} {:>10.2f} {:>12.1f}\n", name,
               static_cast<double>(iterations) / kBatches, times[times.size() / 2],
               times[times.size() * 99 / 100], warm_times[warm_times.size() / 2], all.back());
  }
}

}  // namespace
}  // namespace lplb::solvers
