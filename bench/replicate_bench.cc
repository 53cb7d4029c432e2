// SPDX-License-Identifier: MIT
#include <benchmark/benchmark.h>

#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "bench/workloads.h"
#include "lplb/replicate.h"

// Benchmarks of copies for each batch: experts in order on R ranks, without static replicas, one
// dynamic slot a rank. An item is a plan.
namespace lplb::bench {
namespace {

void choose_copies(benchmark::State& state, Index num_ranks, const char* loads_of) {
  const auto& loads = workload(loads_of).loads;
  std::vector<Index> homes(loads[0].size());
  std::iota(homes.begin(), homes.end(), 0);
  const auto experts = static_cast<Index>(homes.size());
  Replicator replicator(make_placement(num_ranks, experts, homes));
  Replication plan;
  std::size_t i = 0;
  for (auto _ : state) {
    replicator.run(loads[i++ % loads.size()], plan);
    benchmark::DoNotOptimize(plan.max_load);
  }
  state.SetItemsProcessed(state.iterations());
}

bool register_all() {
  for (const auto& [ranks, shape] :
       {std::pair{8, "cube8x2"}, {16, "hypercube16x2"}, {32, "EP32+32"}, {64, "EP64+64"}}) {
    for (const std::string kind : {"mild:", "skew:"}) {
      const std::string loads = kind + shape;
      benchmark::RegisterBenchmark(("replicate/" + kind + "EP" + std::to_string(ranks)).c_str(),
                                   [ranks = ranks, loads](benchmark::State& state) {
                                     choose_copies(state, ranks, loads.c_str());
                                   });
    }
  }
  return true;
}

[[maybe_unused]] const bool registered = register_all();

}  // namespace
}  // namespace lplb::bench
