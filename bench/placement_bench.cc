// SPDX-License-Identifier: MIT
#include <benchmark/benchmark.h>

#include <cstdint>
#include <string>
#include <vector>

#include "lplb/placement.h"

// Benchmarks of the slow loop. An item of rebalance/ and topology/ is a layer, an item of moves/ is
// a slot. scripts/eplb-reference-speed times the reference implementation on the loads of
// rebalance/.
namespace lplb {
namespace {

constexpr Index kLayers = 58;
constexpr Index kExperts = 256;
constexpr std::size_t kSets = 16;  // so many that branch prediction cannot learn them

/// Turns the number of an entry into a token count (splitmix64). The counts differ widely in size.
double load_of(std::uint64_t i) {
  std::uint64_t x = (i + 1) * 0x9E3779B97F4A7C15;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
  x ^= x >> 31;
  return static_cast<double>((x >> 32) % (std::uint64_t{1} << (4 + x % 12)));
}

/// Makes loads [kSets, kLayers * kExperts].
std::vector<std::vector<double>> make_loads() {
  std::vector<std::vector<double>> sets(kSets);
  std::uint64_t next = 0;
  for (auto& load : sets) {
    for (Index i = 0; i < kLayers * kExperts; ++i) load.push_back(load_of(next++));
  }
  return sets;
}

struct Shape {
  const char* name;
  Index replicas, groups, nodes, ranks;
};

void rebalance(benchmark::State& state, const Shape& s, int num_threads) {
  const auto loads = make_loads();
  std::size_t i = 0;
  for (auto _ : state) {
    const ExpertMaps maps =
        rebalance_experts(loads[i++ % kSets], kLayers, kExperts, s.replicas, s.groups, s.nodes,
                          s.ranks, {.num_threads = num_threads});
    benchmark::DoNotOptimize(maps.logical_to_physical.data());
  }
  state.SetItemsProcessed(state.iterations() * kLayers);
}

void topology_placement(benchmark::State& state, const std::string& name, Index redundants) {
  const auto loads = make_loads();
  const Topology topology = parse_topology(name);
  std::size_t i = 0;
  for (auto _ : state) {
    const ExpertMaps maps = place_on_topology(loads[i++ % kSets], kLayers, kExperts, topology,
                                              redundants, topology.group_size);
    benchmark::DoNotOptimize(maps.logical_to_physical.data());
  }
  state.SetItemsProcessed(state.iterations() * kLayers);
}

/// Times the plan of moves from each layer's placement to that of the next layer, as if it were a
/// rebalance.
void moves(benchmark::State& state, const Shape& s, bool keep) {
  const auto loads = make_loads();
  const ExpertMaps maps =
      rebalance_experts(loads[0], kLayers, kExperts, s.replicas, s.groups, s.nodes, s.ranks);
  std::vector<Placement> placements;
  for (Index layer = 0; layer < kLayers; ++layer) {
    placements.push_back(make_placement(s.ranks, kExperts, maps.layer(layer)));
  }
  std::size_t i = 0;
  for (auto _ : state) {
    const Placement& from = placements[i % kLayers];
    const Placement& to = placements[++i % kLayers];
    const auto plan = keep ? plan_moves(from, keep_slots(from, to)) : plan_moves(from, to);
    benchmark::DoNotOptimize(plan.data());
  }
  state.SetItemsProcessed(state.iterations() * s.replicas);
}

bool register_all() {
  static constexpr Shape kShapes[] = {{"288/g8/n4/r32", 288, 8, 4, 32},
                                      {"288/g1/n1/r32", 288, 1, 1, 32},
                                      {"320/g8/n8/r64", 320, 8, 8, 64},
                                      {"320/g1/n1/r64", 320, 1, 1, 64}};
  for (const Shape& shape : kShapes) {
    benchmark::RegisterBenchmark((std::string("rebalance/58x256-") + shape.name).c_str(), rebalance,
                                 shape, 1)
        ->Unit(benchmark::kMicrosecond);
  }
  benchmark::RegisterBenchmark("rebalance/58x256-288/g8/n4/r32/threads:2", rebalance, kShapes[0], 2)
      ->Unit(benchmark::kMicrosecond)
      ->UseRealTime();
  for (const char* name : {"cube", "hypercube", "torus:8x4"}) {
    benchmark::RegisterBenchmark((std::string("topology/58x256/") + name).c_str(),
                                 topology_placement, name, 2)
        ->Unit(benchmark::kMicrosecond);
  }
  for (const bool keep : {false, true}) {
    benchmark::RegisterBenchmark(keep ? "moves/288/r32/keep_slots" : "moves/288/r32", moves,
                                 kShapes[0], keep)
        ->Unit(benchmark::kMicrosecond);
  }
  return true;
}

const bool kRegistered = register_all();

}  // namespace
}  // namespace lplb
