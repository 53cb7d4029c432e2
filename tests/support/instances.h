// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "lplb/types.h"

// Placements and loads that tests and benchmarks share. They depend only on the arguments, not on
// the machine or compiler: the generator is our own, and no std::*_distribution and no libm is
// used.
namespace lplb::testing {

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
class SplitMix64 {
 public:
  explicit SplitMix64(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next();
  /// A number in [0, n), n >= 1. The bias of the remainder does not matter here.
  Index below(Index n);
  /// A number in [low, high].
  Load between(Load low, Load high);
  /// A number in [0, 1), a multiple of 2^-53.
  double unit();

 private:
  std::uint64_t state_;
};

/// A divisor of `n` that is at most `most`, and more than 1 if there is one.
Index draw_divisor(Index n, Index most, SplitMix64& random);

struct Instance {
  std::string name;
  Placement placement;
  std::vector<Load> load;
};

/// One placement and many batches for it, which take turns in a benchmark.
struct Workload {
  std::string name;
  Placement placement;
  std::vector<std::vector<Load>> loads;
};

enum class LoadShape { kUniform, kLognormal, kZipf, kOneHot, kEqual, kZero };
const char* shape_name(LoadShape shape);

/// Distributes `total` tokens over `num_logical` experts in random order. Each load is rounded
/// down, so the sum may be smaller.
std::vector<Load> make_load(LoadShape shape, Index num_logical, Load total, SplitMix64& random);

/// The popularity of experts that hard loads drift from: `total` tokens over experts whose
/// popularity has a logarithm with standard deviation `sigma`. Each is rounded down.
std::vector<Load> hard_popularity(Index num_logical, double sigma, Load total, SplitMix64& random);

/// A batch that has drifted from `popularity`: each expert has a lognormal factor of its own
/// (0.34), and `total` tokens are drawn, a multinomial number for each expert.
std::vector<Load> hard_batch(std::span<const Load> popularity, Load total, SplitMix64& random);

/// A placement by the topology r2o [group_size, num_columns]. Each rank owns num_logical /
/// num_ranks consecutive experts. Its redundant d copies expert d of the rank that r2o names.
/// num_ranks must be a multiple of group_size.
Placement topology_placement(std::span<const Index> r2o, Index num_columns, Index num_ranks,
                             Index num_logical, Index redundants);

/// A placement like that of EPLB's global policy, with other rules for ties. Each of the
/// `num_replicas` extra slots goes to the expert with the largest load per replica. Then each slot
/// goes to the least loaded rank that has room and, if possible, has no replica of the same expert.
Placement greedy_placement(std::span<const Load> load, Index num_replicas, Index num_ranks);

/// The names of the benchmarked shapes: cube8x2, hypercube16x2, torus8x4x2, EP32+32, EP64+64,
/// EP72+144 and EP128+128. EP72+144 has 288 experts, the others have 256.
std::vector<std::string> workload_names();

/// The same shapes and EP16+16, EP144 (288 slots), EP256 (512 slots) and EP320 (320 slots), each
/// with two kinds of hard loads: "mild:cube8x2", "skew:cube8x2" and so on.
std::vector<std::string> hard_workload_names();

/// Makes batches of 4096 tokens for each rank, top 8.
///
/// - "SHAPE": `seed` determines a lognormal popularity of experts, and the placement is made for
///   it. In each batch the popularity of each expert is multiplied by another lognormal factor,
///   which is between 1 / 1.4 and 1.4 in two of three batches.
/// - "mild:SHAPE", "skew:SHAPE": the same with popularities whose logarithm has a standard
///   deviation of 0.5 (mild) or 1.2 (skew), factors of 0.34, and counts that are drawn: a
///   multinomial number for each expert.
Workload make_workload(const std::string& name, int num_batches, std::uint64_t seed = 1);

struct RandomLimits {
  Index max_ranks = 12;
  Index max_slots_per_rank = 4;
  Load max_load = 1000;  ///< largest load of an expert
  bool speeds = true;    ///< some instances have ranks of unequal speed
  bool dead_ranks = true;
};

/// Any placement that make_placement() takes, within the limits, and a load. Instances have all
/// replica counts, and some have replicas that share a rank, several parts, speeds, or dead ranks.
Instance random_instance(std::uint64_t seed, const RandomLimits& limits = {});

/// The hardest instances that we could think of: chains, stars, rings, one hot expert, equal loads,
/// zeros, one token, sums near 2^62, replicas that share a rank, dead ranks, speeds, 1024 ranks,
/// and the workloads' shapes.
std::vector<Instance> adversarial_instances();

}  // namespace lplb::testing
