// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "lplb/types.h"

// Placements and loads that tests and benchmarks share. Everything follows from the arguments
// alone, on every machine and compiler: own generator, no std::*_distribution, no libm.
namespace lplb::testing {

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
class SplitMix64 {
 public:
  explicit SplitMix64(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next();
  /// In [0, n), n >= 1; the bias of the remainder is of no concern here.
  Index below(Index n);
  /// In [low, high].
  Load between(Load low, Load high);
  /// In [0, 1), a multiple of 2^-53.
  double unit();

 private:
  std::uint64_t state_;
};

struct Instance {
  std::string name;
  Placement placement;
  std::vector<Load> load;
};

/// One placement and many batches for it: what a benchmark rotates through.
struct Workload {
  std::string name;
  Placement placement;
  std::vector<std::vector<Load>> loads;
};

enum class LoadShape { kUniform, kLognormal, kZipf, kOneHot, kEqual, kZero };
const char* shape_name(LoadShape shape);

/// `total` tokens, less what rounding down loses, over `num_logical` experts in random order.
std::vector<Load> make_load(LoadShape shape, Index num_logical, Load total, SplitMix64& random);

/// `topology` given as r2o [group_size, num_columns]; rank g owns num_logical / num_ranks
/// consecutive experts, redundant d copies the d-th of the rank that r2o names. num_ranks is a
/// multiple of the group size.
Placement topology_placement(std::span<const Index> r2o, Index num_columns, Index num_ranks,
                             Index num_logical, Index redundants);

/// As EPLB's global policy, less its tie rules: each of `num_replicas` extra slots goes to the
/// expert with most load a replica, then slots go to the least loaded rank that has room and, where
/// it can be, no replica of the same expert yet.
Placement greedy_placement(std::span<const Load> load, Index num_replicas, Index num_ranks);

/// The shapes that are benchmarked: cube8x2, hypercube16x2, torus8x4x2, EP32+32, EP64+64,
/// EP72+144 (288 experts; the others 256) and EP128+128.
std::vector<std::string> workload_names();

/// Batches of 4096 tokens a rank, top 8: lognormal expert popularity from `seed`, the placement
/// made for it, and `num_batches` batches that drift around it: each expert by a factor that is
/// lognormal again, within 1.4 either way in two batches of three.
Workload make_workload(const std::string& name, int num_batches, std::uint64_t seed = 1);

struct RandomLimits {
  Index max_ranks = 12;
  Index max_slots_per_rank = 4;
  Load max_load = 1000;  ///< of one expert
  bool speeds = true;    ///< some instances have ranks of unequal speed
  bool dead_ranks = true;
};

/// Any placement that make_placement() takes, within the limits: any replica counts, replicas that
/// share a rank, several components, speeds, dead ranks, in some proportion each.
Instance random_instance(std::uint64_t seed, const RandomLimits& limits = {});

/// The worst that was thought of: chains, stars, rings, one hot expert, all equal, zeros, one
/// token, sums near 2^62, shared ranks, dead ranks, speeds, 1024 ranks, and the workloads' shapes.
std::vector<Instance> adversarial_instances();

}  // namespace lplb::testing
