// SPDX-License-Identifier: MIT
#include <algorithm>
#include <stdexcept>

#include "bench/cuda_bench.h"
#include "bench/graph_timer.h"
#include "bench/plan_batch.h"
#include "lplb/solver.h"
#include "solve/device/device_solver.h"
#include "solve/device/solve_kernel.cuh"

namespace lplb::bench {
namespace {

constexpr int kBatches = 400;
constexpr int kSmallBatches = 60;
constexpr int kLaunches = 20;  // how many launches batch/ times

/// What tokens cost on an H200: data/cost/h200-dsv3-bf16.json.
CostModel dsv3_model() {
  return CostModel("us",
                   CostTable{32.2, {128, 256, 384, 512}, {30.6, 43.2, 68.1, 68.1}, 256, 35.2});
}

/// All batches of a workload on the device.
class DeviceBatches {
 public:
  /// `solver` kFastTime: by dsv3_model().
  DeviceBatches(testing::Workload workload, Solver solver)
      : workload_(std::move(workload)), split_(workload_.placement), solver_(solver) {
    if (solver == Solver::kFastTime) model_.assign(cost_, split_.tables());
    std::vector<std::int32_t> all;
    for (const auto& load : workload_.loads) all.insert(all.end(), load.begin(), load.end());
    load_.reserve(all.size());
    LPLB_CUDA_CHECK(cudaMemcpy(load_.get(), all.data(), all.size() * sizeof(std::int32_t),
                               cudaMemcpyHostToDevice));
    physical_.reserve(workload_.loads.size() * workload_.placement.physical_to_logical.size());
    outcome_.reserve(workload_.loads.size());
    time_.reserve(workload_.loads.size());
    problem_.assign(split_.tables(), timer_.stream(), by_cost() ? &model_ : nullptr);
  }

  int count() const { return static_cast<int>(workload_.loads.size()); }

  void launch(int first, int count) {
    const auto logical = static_cast<std::size_t>(workload_.placement.num_logical_experts);
    const std::size_t physical = workload_.placement.physical_to_logical.size();
    solvers::SolvePointers pointers;
    pointers.load = load_.get() + static_cast<std::size_t>(first) * logical;
    pointers.physical_load = physical_.get() + static_cast<std::size_t>(first) * physical;
    pointers.outcome = outcome_.get() + first;
    pointers.time = time_.get() + first;
    problem_.launch(timer_.stream(), pointers, count, solver_, -1);
  }

  /// Throws unless every result has the largest load, or cost, of the CPU's result. Returns how
  /// many results the device itself has proven optimal.
  int check() {
    launch(0, count());
    LPLB_CUDA_CHECK(cudaStreamSynchronize(timer_.stream()));
    std::vector<solvers::DeviceOutcome> outcomes(workload_.loads.size());
    LPLB_CUDA_CHECK(cudaMemcpy(outcomes.data(), outcome_.get(),
                               outcomes.size() * sizeof(solvers::DeviceOutcome),
                               cudaMemcpyDeviceToHost));
    std::vector<solvers::TimeOutcome> times(workload_.loads.size());
    LPLB_CUDA_CHECK(cudaMemcpy(times.data(), time_.get(), times.size() * sizeof(times[0]),
                               cudaMemcpyDeviceToHost));
    Split split;
    Workspace workspace;
    int optimal = 0;
    for (std::size_t i = 0; i < outcomes.size(); ++i) {
      solve(split_, workload_.loads[i], split, workspace,
            {.solver = solver_, .cost = by_cost() ? &cost_ : nullptr});
      if (outcomes[i].max_load != static_cast<int>(split.max_load) ||
          (by_cost() &&
           (times[i].max_cost != split.cost.max || times[i].bound != split.cost.bound))) {
        throw std::runtime_error("a batch is not split as on the CPU");
      }
      optimal += outcomes[i].status == solvers::kDeviceOptimal ? 1 : 0;
    }
    return optimal;
  }

  GraphTimer& timer() { return timer_; }

 private:
  bool by_cost() const { return solver_ == Solver::kFastTime; }

  testing::Workload workload_;
  SplitProblem split_;
  Solver solver_;
  CostModel cost_ = dsv3_model();
  solvers::TimeModel model_;
  GraphTimer timer_;
  solvers::DeviceProblem problem_;
  device::Array<std::int32_t> load_, physical_;
  device::Array<solvers::DeviceOutcome> outcome_;
  device::Array<solvers::TimeOutcome> time_;
};

/// Batches of `tokens` for each rank, drawn like those of 4096.
void shrink(testing::Workload& workload, std::int64_t tokens) {
  for (std::size_t i = 0; i < workload.loads.size(); ++i) {
    const PlanBatch batch(workload.placement, workload.loads[i], tokens, i, Singles::kEach);
    std::vector<Load>& load = workload.loads[i];
    std::fill(load.begin(), load.end(), 0);
    for (std::size_t j = 0; j < batch.counts.size(); ++j) load[j % load.size()] += batch.counts[j];
  }
}

/// `tokens`: for each rank; 0: as the workload has them.
CudaTiming time_batches(const Case& c, Solver solver, std::int64_t tokens = 0) {
  std::vector<double> times;
  int optimal = 0;
  for (testing::Workload& workload : c.make(tokens > 0 ? kSmallBatches : kBatches)) {
    if (tokens > 0) shrink(workload, tokens);
    DeviceBatches batches(std::move(workload), solver);
    optimal += batches.check();
    for (int i = 0; i < batches.count(); ++i) {
      times.push_back(batches.timer().time_us([&] { batches.launch(i, 1); }));
    }
  }
  CudaTiming timing = summarize(std::move(times));
  timing.note = std::to_string(optimal) + "/" + std::to_string(timing.num_times) + " optimal";
  return timing;
}

/// Times kBatches batches of a placement in one launch, and divides by kBatches. If the placement
/// has fewer batches, they are repeated.
CudaTiming time_launch(const Case& c, Solver solver) {
  std::vector<double> times;
  for (testing::Workload& workload : c.make(kBatches)) {
    for (std::size_t i = 0; workload.loads.size() < kBatches; ++i) {
      workload.loads.push_back(std::vector<Load>(workload.loads[i]));
    }
    DeviceBatches batches(std::move(workload), solver);
    batches.check();
    for (int i = 0; i < kLaunches; ++i) {
      times.push_back(batches.timer().time_us([&] { batches.launch(0, kBatches); }) / kBatches);
    }
  }
  CudaTiming timing = summarize(std::move(times));
  timing.note = std::to_string(static_cast<long long>(1e6 / timing.median_us)) + " solves/s";
  return timing;
}

__global__ void empty_kernel() {}

CudaTiming time_empty() {
  GraphTimer timer;
  std::vector<double> times;
  for (int i = 0; i < kLaunches; ++i) {
    times.push_back(timer.time_us([&] { empty_kernel<<<1, 128, 0, timer.stream()>>>(); }));
  }
  return summarize(std::move(times));
}

/// What a row's median and 99th percentile should be: `hard` with hard loads, mild and skew alike.
struct Targets {
  const char* shape;
  CudaTarget must, aim, hard_must, hard_aim;
};
constexpr CudaTarget kMustEp{15, 40}, kAimEp{8, 15}, kHardMustEp{5.5, 10}, kHardAimEp{4.5, 7};
constexpr Targets kTargets[] = {
    {"cube8x2", {4.5, 0}, {3, 0}, {5, 6.5}, {3.5, 5}},
    {"hypercube16x2", {10, 0}, {6, 0}, {6, 10}, {4.5, 7}},
    {"torus8x4x2", {14, 0}, {8, 0}, {8, 14}, {6, 10}},
    {"EP32+32", kMustEp, kAimEp, kHardMustEp, kHardAimEp},
    {"EP64+64", kMustEp, kAimEp, kHardMustEp, kHardAimEp},
    {"EP72+144", {11, 25}, {8, 15}, {}, {}},
    {"EP128+128", kMustEp, kAimEp, {}, {}},
};

Targets targets_of(const Case& c) {
  for (const Targets& targets : kTargets) {
    if (is_shape(c, targets.shape)) return targets;
  }
  return {};
}
/// Splits by costs: what a row's median should be, with twice of it for the 99th percentile.
constexpr CudaTarget kTimeMustCube{8, 16}, kTimeAimCube{5, 10}, kTimeMustEp{15, 30},
    kTimeAimEp{9, 18};
/// The target for a batch in a launch of many: two million batches a second.
constexpr CudaTarget kMustLaunch{0.5, 0};

void add_solves(const std::vector<Case>& cases, std::vector<CudaBenchmark>& benchmarks) {
  benchmarks.push_back({"empty kernel", {}, {}, time_empty});
  for (const Case& c : cases) {
    const Targets targets = targets_of(c);
    const CudaTarget must = is_hard(c) ? targets.hard_must : targets.must;
    const CudaTarget aim = is_hard(c) ? targets.hard_aim : targets.aim;
    const bool is_cube = is_shape(c, "cube8x2");
    for (const Solver solver : {Solver::kCut, Solver::kFlow}) {
      if (solver == Solver::kCut && !is_cube) continue;
      const std::string name = c.name + "/" + solver_name(solver);
      benchmarks.push_back({"solve/" + name, must, aim, [=] { return time_batches(c, solver); }});
      const CudaTarget launch = is_cube ? kMustLaunch : CudaTarget{};
      benchmarks.push_back(
          {"batch/" + name, launch, launch, [=] { return time_launch(c, solver); }});
    }
  }
}

void add_times(const std::vector<Case>& cases, std::vector<CudaBenchmark>& benchmarks) {
  for (const Case& c : cases) {
    const bool is_cube = is_shape(c, "cube8x2");
    if (!is_cube && !is_shape(c, "EP64+64")) continue;
    for (const std::int64_t tokens : {8, 32, 128, 4096}) {
      benchmarks.push_back({"time/" + c.name + "/" + std::to_string(tokens),
                            is_cube ? kTimeMustCube : kTimeMustEp,
                            is_cube ? kTimeAimCube : kTimeAimEp,
                            [=] { return time_batches(c, Solver::kFastTime, tokens); }});
    }
  }
}

[[maybe_unused]] const bool registered =
    (cuda_suites().push_back(add_solves), cuda_suites().push_back(add_times), true);

}  // namespace
}  // namespace lplb::bench
