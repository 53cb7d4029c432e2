// SPDX-License-Identifier: MIT
#include <stdexcept>

#include "bench/cuda_bench.h"
#include "bench/graph_timer.h"
#include "lplb/solver.h"
#include "solve/ipm/cuda.h"
#include "solve/solvers.h"

// Benchmarks of the interior-point solver's iterations on the device: one batch for each launch, to
// kTolerance.
namespace lplb::bench {
namespace {

constexpr int kBatches = 60;
constexpr int kRepeats = 5;  // solves of a batch in a graph; few, because a solve is long
constexpr double kTolerance = 1e-4;

/// Solves batches of one placement on the device, one at a time.
class DeviceBatch {
 public:
  explicit DeviceBatch(const testing::Workload& workload)
      : workload_(workload), split_(workload.placement), device_(split_.tables(), 1) {}

  void set(const std::vector<Load>& load) {
    solvers::Buffers& b = workspace_.buffers();
    solvers::take_loads(split_.tables(), load, b);
    std::vector<std::int64_t> fixed;
    for (const Index g : split_.tables().live_ranks) fixed.push_back(b.fixed_load[g]);
    copy(device_.args().want, b.want);
    copy(device_.args().fixed, fixed);
    solve(split_, load, best_, workspace_, {.solver = Solver::kFlow});
  }

  double time_us(bool warm) {
    SolveOptions options;
    options.solver = Solver::kIpm;
    options.tolerance = kTolerance;
    options.warm_start = warm;
    return timer_.time_us([&] { device_.launch(1, options, timer_.stream()); }, kRepeats);
  }

  /// Throws unless the solver converged to the exact optimum, within the tolerance. Returns the
  /// number of iterations.
  int check() {
    solvers::IpmOutcome outcome{};
    LPLB_CUDA_CHECK(
        cudaMemcpy(&outcome, device_.args().outcome, sizeof outcome, cudaMemcpyDeviceToHost));
    const double best = best_.max_load;
    if (outcome.status != solvers::IpmOutcomeStatus::kConverged ||
        outcome.max_load > best * (1 + 2 * kTolerance) || outcome.lower_bound > best) {
      throw std::runtime_error("the interior-point solver missed the optimum");
    }
    return outcome.iterations;
  }

 private:
  static void copy(const std::int64_t* to, const std::vector<std::int64_t>& from) {
    LPLB_CUDA_CHECK(cudaMemcpy(const_cast<std::int64_t*>(to), from.data(),
                               from.size() * sizeof(std::int64_t), cudaMemcpyHostToDevice));
    LPLB_CUDA_CHECK(cudaDeviceSynchronize());
  }

  const testing::Workload& workload_;
  SplitProblem split_;
  solvers::IpmDevice device_;
  GraphTimer timer_;
  Workspace workspace_;
  Split best_;
};

/// If `warm`, each solve of a batch starts from where the previous solve of that batch ended.
CudaTiming time_ipm(const Case& c, bool warm) {
  std::vector<double> times;
  int iterations = 0;
  for (const testing::Workload& workload : c.make(kBatches)) {
    DeviceBatch batch(workload);
    for (const auto& load : workload.loads) {
      batch.set(load);
      times.push_back(batch.time_us(warm));
      iterations += batch.check();
    }
  }
  CudaTiming timing = summarize(std::move(times));
  timing.note = std::to_string(iterations / static_cast<double>(timing.num_times)).substr(0, 5) +
                " iterations a solve";
  return timing;
}

void add_ipm(const std::vector<Case>& cases, std::vector<CudaBenchmark>& benchmarks) {
  for (const Case& c : cases) {
    if (is_only_hard(c)) continue;
    CudaTarget must, aim;
    if (is_shape(c, "cube8x2")) {
      must = {is_hard(c) ? 35.0 : 60.0, 0};
      aim = {is_hard(c) ? 20.0 : 25.0, 0};
    } else if (is_shape(c, "EP64+64") && is_hard(c)) {
      must = {150, 0};
      aim = {100, 0};
    }
    benchmarks.push_back({"ipm/" + c.name, must, aim, [c] { return time_ipm(c, false); }});
    benchmarks.push_back({"ipm/" + c.name + "/warm", {}, {}, [c] { return time_ipm(c, true); }});
  }
}

[[maybe_unused]] const bool registered = (cuda_suites().push_back(add_ipm), true);

}  // namespace
}  // namespace lplb::bench
