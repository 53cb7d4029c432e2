// SPDX-License-Identifier: MIT
#include <algorithm>
#include <stdexcept>

#include "bench/cuda_bench.h"
#include "bench/graph_timer.h"
#include "lplb/solver.h"
#include "solve/device_solver.h"
#include "solve/solve_kernel.cuh"
#include "support/instances.h"

namespace lplb::bench {

std::vector<CudaBenchmark>& cuda_benchmarks() {
  static std::vector<CudaBenchmark> all;
  return all;
}

CudaTiming summarize(std::vector<double> times) {
  std::sort(times.begin(), times.end());
  const auto at = [&](double part) {
    return times[static_cast<std::size_t>(part * static_cast<double>(times.size() - 1) + 0.5)];
  };
  return {at(0.5), at(0.99), ""};
}

namespace {

constexpr int kBatches = 400;

/// All batches of a workload on the device.
class DeviceBatches {
 public:
  DeviceBatches(const std::string& name, Solver solver)
      : workload_(testing::make_workload(name, kBatches)),
        split_(workload_.placement),
        solver_(solver) {
    std::vector<std::int32_t> all;
    for (const auto& load : workload_.loads) all.insert(all.end(), load.begin(), load.end());
    load_.reserve(all.size());
    LPLB_CUDA_CHECK(cudaMemcpy(load_.get(), all.data(), all.size() * sizeof(std::int32_t),
                               cudaMemcpyHostToDevice));
    physical_.reserve(kBatches * workload_.placement.physical_to_logical.size());
    outcome_.reserve(kBatches);
    problem_.assign(split_.tables(), timer_.stream());
  }

  void launch(int first, int count) {
    const auto logical = static_cast<std::size_t>(workload_.placement.num_logical_experts);
    const std::size_t physical = workload_.placement.physical_to_logical.size();
    solvers::SolvePointers pointers;
    pointers.load = load_.get() + static_cast<std::size_t>(first) * logical;
    pointers.physical_load = physical_.get() + static_cast<std::size_t>(first) * physical;
    pointers.outcome = outcome_.get() + first;
    problem_.launch(timer_.stream(), pointers, count, solver_, -1);
  }

  /// Every result is the optimum that the CPU proves; returns how many are certified on the device.
  int check() {
    launch(0, kBatches);
    LPLB_CUDA_CHECK(cudaStreamSynchronize(timer_.stream()));
    std::vector<solvers::DeviceOutcome> outcomes(kBatches);
    LPLB_CUDA_CHECK(cudaMemcpy(outcomes.data(), outcome_.get(),
                               kBatches * sizeof(solvers::DeviceOutcome), cudaMemcpyDeviceToHost));
    Split split;
    Workspace workspace;
    int optimal = 0;
    for (int i = 0; i < kBatches; ++i) {
      solve(split_, workload_.loads[static_cast<std::size_t>(i)], split, workspace,
            {.solver = solver_});
      const auto& outcome = outcomes[static_cast<std::size_t>(i)];
      if (outcome.max_load != static_cast<int>(split.max_load)) {
        throw std::runtime_error("a batch is not at the optimum");
      }
      optimal += outcome.status == solvers::kDeviceOptimal ? 1 : 0;
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

CudaTiming time_batches(const std::string& name, Solver solver) {
  DeviceBatches batches(name, solver);
  const int optimal = batches.check();
  std::vector<double> times;
  for (int i = 0; i < kBatches; ++i) {
    times.push_back(batches.timer().time_us([&] { batches.launch(i, 1); }));
  }
  CudaTiming timing = summarize(std::move(times));
  timing.note = std::to_string(optimal) + "/" + std::to_string(kBatches) + " optimal";
  return timing;
}

/// All batches in one launch: the time a batch.
CudaTiming time_launch(const std::string& name, Solver solver) {
  DeviceBatches batches(name, solver);
  batches.check();
  std::vector<double> times;
  for (int i = 0; i < 20; ++i) {
    times.push_back(batches.timer().time_us([&] { batches.launch(0, kBatches); }) / kBatches);
  }
  CudaTiming timing = summarize(std::move(times));
  timing.note = std::to_string(static_cast<long long>(1e6 / timing.median_us)) + " solves/s";
  return timing;
}

__global__ void empty_kernel() {}

CudaTiming time_empty() {
  GraphTimer timer;
  std::vector<double> times;
  for (int i = 0; i < 20; ++i) {
    times.push_back(timer.time_us([&] { empty_kernel<<<1, 128, 0, timer.stream()>>>(); }));
  }
  return summarize(std::move(times));
}

bool register_all() {
  auto& all = cuda_benchmarks();
  struct Target {
    const char* name;
    Solver solver;
    double must, aim;
  };
  all.push_back({"empty kernel", 0, 0, time_empty});
  for (const Target& t : {Target{"cube8x2", Solver::kCut, 4.5, 3},
                          {"cube8x2", Solver::kFlow, 4.5, 3},
                          {"hypercube16x2", Solver::kFlow, 10, 6},
                          {"torus8x4x2", Solver::kFlow, 14, 8},
                          {"EP32+32", Solver::kFlow, 15, 8},
                          {"EP64+64", Solver::kFlow, 15, 8},
                          {"EP72+144", Solver::kFlow, 15, 8},
                          {"EP128+128", Solver::kFlow, 15, 8}}) {
    const std::string name = t.name;
    const Solver solver = t.solver;
    all.push_back({"solve/" + name + "/" + solver_name(solver), t.must, t.aim,
                   [=] { return time_batches(name, solver); }});
    all.push_back({"batch/" + name + "/" + solver_name(solver), 0, 0,
                   [=] { return time_launch(name, solver); }});
  }
  return true;
}

[[maybe_unused]] const bool registered = register_all();

}  // namespace
}  // namespace lplb::bench
