// SPDX-License-Identifier: MIT
#include <algorithm>
#include <stdexcept>

#include "bench/cuda_bench.h"
#include "bench/graph_timer.h"
#include "lplb/solver.h"
#include "solve/device/device_solver.h"
#include "solve/device/solve_kernel.cuh"

namespace lplb::bench {
namespace {

constexpr int kBatches = 400;
constexpr int kLaunches = 20;  // how many launches batch/ times

/// All batches of a workload on the device.
class DeviceBatches {
 public:
  DeviceBatches(testing::Workload workload, Solver solver)
      : workload_(std::move(workload)), split_(workload_.placement), solver_(solver) {
    std::vector<std::int32_t> all;
    for (const auto& load : workload_.loads) all.insert(all.end(), load.begin(), load.end());
    load_.reserve(all.size());
    LPLB_CUDA_CHECK(cudaMemcpy(load_.get(), all.data(), all.size() * sizeof(std::int32_t),
                               cudaMemcpyHostToDevice));
    physical_.reserve(workload_.loads.size() * workload_.placement.physical_to_logical.size());
    outcome_.reserve(workload_.loads.size());
    problem_.assign(split_.tables(), timer_.stream());
  }

  int count() const { return static_cast<int>(workload_.loads.size()); }

  void launch(int first, int count) {
    const auto logical = static_cast<std::size_t>(workload_.placement.num_logical_experts);
    const std::size_t physical = workload_.placement.physical_to_logical.size();
    solvers::SolvePointers pointers;
    pointers.load = load_.get() + static_cast<std::size_t>(first) * logical;
    pointers.physical_load = physical_.get() + static_cast<std::size_t>(first) * physical;
    pointers.outcome = outcome_.get() + first;
    problem_.launch(timer_.stream(), pointers, count, solver_, -1);
  }

  /// Throws unless every result is the optimum that the CPU proves. Returns how many results the
  /// device itself has proven optimal.
  int check() {
    launch(0, count());
    LPLB_CUDA_CHECK(cudaStreamSynchronize(timer_.stream()));
    std::vector<solvers::DeviceOutcome> outcomes(workload_.loads.size());
    LPLB_CUDA_CHECK(cudaMemcpy(outcomes.data(), outcome_.get(),
                               outcomes.size() * sizeof(solvers::DeviceOutcome),
                               cudaMemcpyDeviceToHost));
    Split split;
    Workspace workspace;
    int optimal = 0;
    for (std::size_t i = 0; i < outcomes.size(); ++i) {
      solve(split_, workload_.loads[i], split, workspace, {.solver = solver_});
      if (outcomes[i].max_load != static_cast<int>(split.max_load)) {
        throw std::runtime_error("a batch is not at the optimum");
      }
      optimal += outcomes[i].status == solvers::kDeviceOptimal ? 1 : 0;
    }
    return optimal;
  }

  GraphTimer& timer() { return timer_; }

 private:
  testing::Workload workload_;
  SplitProblem split_;
  Solver solver_;
  GraphTimer timer_;
  solvers::DeviceProblem problem_;
  device::Array<std::int32_t> load_, physical_;
  device::Array<solvers::DeviceOutcome> outcome_;
};

CudaTiming time_batches(const Case& c, Solver solver) {
  std::vector<double> times;
  int optimal = 0;
  for (testing::Workload& workload : c.make(kBatches)) {
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

[[maybe_unused]] const bool registered = (cuda_suites().push_back(add_solves), true);

}  // namespace
}  // namespace lplb::bench
