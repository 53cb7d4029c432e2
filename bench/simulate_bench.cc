// SPDX-License-Identifier: MIT
#include <benchmark/benchmark.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <utility>

#include "lplb/simulate.h"

// Benchmarks of a whole replay: read the trace, place, split, add up the figures. An item is a
// solve.
namespace lplb {
namespace {

/// A trace file of 8 layers and 64 steps, which is removed afterwards. The times include its
/// parsing.
class TraceFile {
 public:
  explicit TraceFile(const SyntheticOptions& options)
      : path_(std::filesystem::temp_directory_path() /
              ("lplb-bench-" + std::to_string(getpid()) + ".jsonl")) {
    const auto reader = open_trace("synthetic:W1_hot_expert_set", options);
    std::ofstream file(path_);
    file << trace_header_line(reader->info());
    for (TraceStep step; reader->next(step);) file << trace_step_line(reader->info(), step);
  }
  ~TraceFile() { std::filesystem::remove(path_); }
  std::string path() const { return path_.string(); }

 private:
  std::filesystem::path path_;
};

void replay(benchmark::State& state, Index num_ranks, Index redundants, const char* policy,
            Index interval) {
  SimulateOptions options;
  options.synthetic.num_layers = 8;
  const TraceFile file(options.synthetic);
  options.trace = file.path();
  options.num_ranks = num_ranks;
  options.redundants = redundants;
  options.policies = {policy};
  options.rebalance_every = interval;
  std::int64_t solves = 0;
  for (auto _ : state) {
    const SimulateReport report = simulate(options);
    solves += report.policies[0].solves;
    benchmark::DoNotOptimize(report.policies[0].imbalance.mean);
  }
  state.SetItemsProcessed(solves);
}

bool register_all() {
  for (const Index interval : {1, 64}) {
    const std::string suffix = "/rebalance_every:" + std::to_string(interval);
    benchmark::RegisterBenchmark(("simulate/cube8x2" + suffix).c_str(), replay, 8, 2, "cube+lplb",
                                 interval)
        ->Unit(benchmark::kMillisecond);
    benchmark::RegisterBenchmark(("simulate/EP64+64" + suffix).c_str(), replay, 64, 1, "eplb+lplb",
                                 interval)
        ->Unit(benchmark::kMillisecond);
  }
  for (const auto& [name, ranks] :
       {std::pair{"simulate/EP8+dynamic:1", 8}, {"simulate/EP64+dynamic:1", 64}}) {
    benchmark::RegisterBenchmark(name, replay, ranks, 0, "none+dynamic:1", 64)
        ->Unit(benchmark::kMillisecond);
  }
  return true;
}

[[maybe_unused]] const bool registered = register_all();

}  // namespace
}  // namespace lplb
