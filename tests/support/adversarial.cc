// SPDX-License-Identifier: MIT
#include <numeric>
#include <utility>

#include "support/instances.h"

namespace lplb::testing {
namespace {

constexpr Load kHuge = Load{1} << 62;

// Expert i is on ranks i and i+1. Experts n-1 and n are only on the two ends.
Placement chain(Index n, const PlacementOptions& options = {}) {
  std::vector<Index> map;
  for (Index g = 0; g < n; ++g) {
    map.push_back(g == 0 ? n - 1 : g - 1);
    map.push_back(g == n - 1 ? n : g);
  }
  return make_placement(n, n + 1, map, options);
}

// Expert i is on ranks i and (i+1) mod n.
Placement ring(Index n, const PlacementOptions& options = {}) {
  std::vector<Index> map;
  for (Index g = 0; g < n; ++g) map.insert(map.end(), {(g + n - 1) % n, g});
  return make_placement(n, n, map, options);
}

// Rank 0 has a replica of the first expert of every other rank. All other experts are on one rank.
Placement star(Index leaves) {
  std::vector<Index> map(leaves);
  std::iota(map.begin(), map.end(), 0);
  Index filler = leaves;
  for (Index leaf = 0; leaf < leaves; ++leaf) {
    map.push_back(leaf);
    for (Index i = 1; i < leaves; ++i) map.push_back(filler++);
  }
  return make_placement(leaves + 1, filler, map);
}

// Expert 0 is on every rank, and expert g+1 only on rank g.
Placement everywhere(Index n, const PlacementOptions& options = {}) {
  std::vector<Index> map;
  for (Index g = 0; g < n; ++g) map.insert(map.end(), {0, g + 1});
  return make_placement(n, n + 1, map, options);
}

// Every expert is on every rank.
Placement complete(Index n, Index num_logical) {
  std::vector<Index> map;
  for (Index g = 0; g < n; ++g) {
    for (Index e = 0; e < num_logical; ++e) map.push_back(e);
  }
  return make_placement(n, num_logical, map);
}

std::vector<Load> filled(Index num_logical, Load value) {
  return std::vector<Load>(num_logical, value);
}

// Expert e has load `hot`, and all others have `value`.
std::vector<Load> with_hot(Index num_logical, Load value, Index e, Load hot) {
  std::vector<Load> load = filled(num_logical, value);
  load[e] = hot;
  return load;
}

PlacementOptions speeds(std::vector<double> rank_speed) { return {1, std::move(rank_speed), {}}; }
PlacementOptions alive(std::vector<char> rank_alive) { return {1, {}, std::move(rank_alive)}; }

void add_long_paths(std::vector<Instance>& all) {
  for (const Index n : {2, 3, 8, 9, 33, 128}) {
    const std::string size = std::to_string(n);
    // One end of the chain is full, so every expert must send more tokens to the other side.
    all.push_back({"chain " + size + ", hot end", chain(n), with_hot(n + 1, 100, n - 1, 100 * n)});
    all.push_back({"chain " + size + ", half", chain(n), with_hot(n + 1, 64, n, 32)});
    all.push_back({"chain " + size + ", one token", chain(n), with_hot(n + 1, 0, 0, 1)});
    all.push_back({"chain " + size + ", huge", chain(n), filled(n + 1, kHuge / (n + 1))});
    all.push_back({"ring " + size + ", equal", ring(n), filled(n, 7)});
    all.push_back({"ring " + size + ", one hot", ring(n), with_hot(n, 10, n / 2, 1001)});
    all.push_back({"ring " + size + ", zero", ring(n), filled(n, 0)});
    std::vector<Load> ramp(n);
    for (Index e = 0; e < n; ++e) ramp[e] = Load{1} << (e % 40);
    all.push_back({"ring " + size + ", powers of two", ring(n), ramp});
  }
}

void add_hubs(std::vector<Instance>& all) {
  for (const Index n : {2, 7, 20}) {
    const std::string size = std::to_string(n);
    const Index num_logical = star(n).num_logical_experts;
    std::vector<Load> load = filled(num_logical, 0);
    for (Index e = 0; e < n; ++e) load[e] = 100 + e;
    all.push_back({"star " + size, star(n), load});
    load[0] = 100000;
    all.push_back({"star " + size + ", hot leaf", star(n), load});
    all.push_back({"star " + size + ", equal", star(n), filled(num_logical, 3)});

    std::vector<Load> steps = filled(n + 1, 0);
    for (Index e = 0; e <= n; ++e) steps[e] = 17 * e;
    steps[0] = 1000;
    all.push_back({"everywhere " + size, everywhere(n), steps});
    all.push_back({"everywhere " + size + ", one token", everywhere(n), with_hot(n + 1, 0, 0, 1)});
    all.push_back({"everywhere " + size + ", huge", everywhere(n), with_hot(n + 1, 0, 0, kHuge)});
    all.push_back({"complete " + size, complete(n, 5), {0, 1, 2, 1000, 31}});
  }
}

void add_small(std::vector<Instance>& all) {
  const std::vector<Index> one = {0};
  all.push_back({"one slot", make_placement(1, 1, one), {5}});
  all.push_back({"one slot, huge", make_placement(1, 1, one), {kHuge}});
  const std::vector<Index> twins = {0, 0, 1, 0, 1, 2};
  all.push_back({"replicas that share a rank", make_placement(2, 3, twins), {101, 7, 5}});
  all.push_back({"replicas that share a rank, two each", make_placement(3, 3, twins), {9, 90, 4}});
  const std::vector<Index> only_twins = {0, 0, 1, 1};
  all.push_back({"replicas on one rank alone", make_placement(2, 2, only_twins), {11, 4}});
  const std::vector<Index> islands = {0, 1, 1, 0, 2, 3, 3, 2};
  all.push_back({"two components", make_placement(4, 4, islands), {100, 1, 10, 3}});
  const std::vector<Index> no_replicas = {0, 1, 2, 3};
  all.push_back({"no replicas", make_placement(4, 4, no_replicas), {4, 8, 1, 0}});
}

void add_speeds_and_dead_ranks(std::vector<Instance>& all) {
  const std::vector<Load> load = {5, 80, 3, 120, 41, 17};
  all.push_back({"ring, speeds", ring(6, speeds({1, 2, 3, 1, 0.5, 4})), load});
  all.push_back({"ring, speeds that round", ring(6, speeds({0.1, 0.3, 0.7, 1.1, 1.3, 0.9})), load});
  all.push_back({"ring, equal speeds", ring(6, speeds({2, 2, 2, 2, 2, 2})), load});
  all.push_back({"ring, speeds far apart", ring(6, speeds({1e-3, 1, 1e3, 1, 1, 1})), load});
  all.push_back({"everywhere, speeds", everywhere(5, speeds({1, 1.5, 0.25, 3, 2})), load});
  all.push_back({"everywhere, speeds, one token",
                 everywhere(5, speeds({1, 1.5, 0.25, 3, 2})),
                 {1, 0, 0, 0, 0, 0}});
  all.push_back({"everywhere, speeds, zero",
                 everywhere(5, speeds({1, 1.5, 0.25, 3, 2})),
                 {0, 0, 0, 0, 0, 0}});
  all.push_back({"ring, one dead", ring(6, alive({1, 1, 0, 1, 1, 1})), load});
  all.push_back({"ring, each other dead", ring(6, alive({1, 0, 1, 0, 1, 0})), load});
  all.push_back({"chain, dead inside", chain(5, alive({1, 0, 1, 1, 1})), load});
  const std::vector<Index> shared = {0, 1, 0, 1, 0, 1};
  all.push_back({"all but one dead", make_placement(3, 2, shared, alive({0, 1, 0})), {70, 3}});
  PlacementOptions both = speeds({1, 2, 9, 1, 0.3, 4});
  both.rank_alive = {1, 1, 0, 1, 1, 1};
  all.push_back({"ring, speeds, one dead", ring(6, both), load});
}

void add_large(std::vector<Instance>& all) {
  all.push_back({"chain 1024, hot end", chain(1024), with_hot(1025, 10, 1023, 300)});
  SplitMix64 random(7);
  const std::vector<Load> load = make_load(LoadShape::kLognormal, 3072, 1 << 24, random);
  all.push_back({"1024 ranks, 4096 slots", greedy_placement(load, 1024, 1024), load});
}

void add_workloads(std::vector<Instance>& all) {
  SplitMix64 random(11);
  for (const std::string& name : workload_names()) {
    const Workload workload = make_workload(name, 2);
    const Index num_logical = workload.placement.num_logical_experts;
    all.push_back({name + ", first batch", workload.placement, workload.loads[0]});
    all.push_back({name + ", second batch", workload.placement, workload.loads[1]});
    for (const LoadShape shape : {LoadShape::kUniform, LoadShape::kLognormal, LoadShape::kZipf,
                                  LoadShape::kOneHot, LoadShape::kEqual, LoadShape::kZero}) {
      all.push_back({name + ", " + shape_name(shape), workload.placement,
                     make_load(shape, num_logical, 1 << 18, random)});
    }
    all.push_back({name + ", huge", workload.placement,
                   make_load(LoadShape::kLognormal, num_logical, kHuge, random)});
    all.push_back({name + ", one token", workload.placement, with_hot(num_logical, 0, 0, 1)});
  }
}

}  // namespace

std::vector<Instance> adversarial_instances() {
  std::vector<Instance> all;
  add_small(all);
  add_long_paths(all);
  add_hubs(all);
  add_speeds_and_dead_ranks(all);
  add_large(all);
  add_workloads(all);
  return all;
}

}  // namespace lplb::testing
