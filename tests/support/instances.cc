// SPDX-License-Identifier: MIT
#include "support/instances.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <numeric>
#include <stdexcept>
#include <tuple>
#include <utility>

namespace lplb::testing {
namespace {

// 2^x, with straight lines between the powers of two. The arithmetic is exact, so the result is the
// same on every machine.
double rough_exp2(double x) {
  const double whole = std::floor(x);
  return std::ldexp(1.0 + (x - whole), static_cast<int>(whole));
}

constexpr double kPerNaturalUnit = 1.4426950408889634;  // log2(e)

// A number that is nearly normally distributed, with mean 0 and variance 1: the sum of twelve
// uniform numbers, less 6.
double rough_normal(SplitMix64& random) {
  double sum = -6.0;
  for (int i = 0; i < 12; ++i) sum += random.unit();
  return sum;
}

template <class T>
void shuffle(std::vector<T>& values, SplitMix64& random) {
  for (auto i = static_cast<Index>(values.size()); i > 1; --i) {
    std::swap(values[i - 1], values[random.below(i)]);
  }
}

std::vector<Load> scale_to(std::span<const double> weight, Load total) {
  const double sum = std::accumulate(weight.begin(), weight.end(), 0.0);
  std::vector<Load> load;
  for (const double w : weight) {
    load.push_back(sum > 0 ? static_cast<Load>(static_cast<double>(total) * (w / sum)) : 0);
  }
  return load;
}

// Orders loads as a topology places experts: the heaviest first, each on the least loaded rank that
// has room. So the heaviest experts of each rank, which get the replicas, come first on the rank.
std::vector<Load> order_over_ranks(std::vector<Load> load, Index num_ranks) {
  std::sort(load.begin(), load.end(), std::greater<>());
  const std::size_t own = load.size() / static_cast<std::size_t>(num_ranks);
  std::vector<std::vector<Load>> on_rank(num_ranks);
  for (const Load tokens : load) {
    const auto cost = [own](const std::vector<Load>& rank) {
      return std::tuple(rank.size() == own, std::accumulate(rank.begin(), rank.end(), Load{0}));
    };
    std::ranges::min_element(on_rank, {}, cost)->push_back(tokens);
  }
  std::vector<Load> ordered;
  for (const auto& rank : on_rank) ordered.insert(ordered.end(), rank.begin(), rank.end());
  return ordered;
}

struct Shape {
  const char* name;
  Index num_ranks;
  Index num_logical;
  Index redundants;  // on each rank if r2o is given, otherwise in all
  Index num_columns;
  std::vector<Index> r2o;
};

std::vector<Index> hypercube_r2o() {
  std::vector<Index> r2o;
  for (Index g = 0; g < 16; ++g) {
    r2o.push_back(g / 4 * 4 + (g + 3) % 4);
    r2o.push_back((g + 12) % 16);
  }
  return r2o;
}

std::vector<Index> torus_r2o(Index rows, Index columns) {
  std::vector<Index> r2o;
  for (Index i = 0; i < rows; ++i) {
    for (Index j = 0; j < columns; ++j) {
      r2o.push_back((i + 1) % rows * columns + j);
      r2o.push_back(i * columns + (j + 1) % columns);
    }
  }
  return r2o;
}

const std::vector<Shape>& shapes() {
  static const std::vector<Shape> all = {
      {"cube8x2", 8, 256, 2, 2, {3, 6, 0, 7, 1, 4, 2, 5, 7, 0, 4, 1, 5, 2, 6, 3}},
      {"hypercube16x2", 16, 256, 2, 2, hypercube_r2o()},
      {"torus8x4x2", 32, 256, 2, 2, torus_r2o(8, 4)},
      {"EP32+32", 32, 256, 32, 0, {}},
      {"EP64+64", 64, 256, 64, 0, {}},
      {"EP72+144", 72, 288, 144, 0, {}},
      {"EP128+128", 128, 256, 128, 0, {}},
      // Only with hard loads.
      {"EP16+16", 16, 256, 16, 0, {}},
      {"EP144", 144, 256, 32, 0, {}},
      {"EP256", 256, 256, 256, 0, {}},
      {"EP320", 320, 256, 64, 0, {}},
  };
  return all;
}
constexpr std::ptrdiff_t kNumWorkloads = 7;

const Shape& find_shape(const std::string& name) {
  const auto shape = std::ranges::find(shapes(), name, &Shape::name);
  if (shape == shapes().end()) throw std::invalid_argument("no workload is named " + name);
  return *shape;
}

/// A placement that is made for `popularity`, which is put in another order if the shape is that of
/// a topology.
Placement place_for(const Shape& shape, std::vector<Load>& popularity) {
  if (shape.r2o.empty()) return greedy_placement(popularity, shape.redundants, shape.num_ranks);
  popularity = order_over_ranks(popularity, shape.num_ranks);
  return topology_placement(shape.r2o, shape.num_columns, shape.num_ranks, shape.num_logical,
                            shape.redundants);
}

/// Draws how many of `n` tokens go to an expert that each goes to with probability `p`: a binomial
/// number, by its normal approximation.
Load draw_binomial(Load n, double p, SplitMix64& random) {
  const double mean = static_cast<double>(n) * p;
  const double drawn = mean + std::sqrt(mean * (1 - p)) * rough_normal(random);
  return std::clamp(static_cast<Load>(std::floor(drawn + 0.5)), Load{0}, n);
}

/// Draws `total` tokens: a multinomial number for each weight.
std::vector<Load> draw_counts(std::span<const double> weight, Load total, SplitMix64& random) {
  double rest = std::accumulate(weight.begin(), weight.end(), 0.0);
  std::vector<Load> load;
  for (const double w : weight) {
    load.push_back(draw_binomial(total, std::min(w / rest, 1.0), random));
    total -= load.back();
    rest -= w;
  }
  load.back() += total;
  return load;
}

/// Loads that drift from the history that their placement was made for.
Workload make_hard_workload(const std::string& name, double sigma, int num_batches,
                            std::uint64_t seed) {
  const Shape& shape = find_shape(name.substr(name.find(':') + 1));
  SplitMix64 random(seed);
  const Load total = Load{4096} * 8 * shape.num_ranks;
  std::vector<Load> popularity = hard_popularity(shape.num_logical, sigma, total, random);
  Workload workload{name, place_for(shape, popularity), {}};
  for (int batch = 0; batch < num_batches; ++batch) {
    workload.loads.push_back(hard_batch(popularity, total, random));
  }
  return workload;
}

}  // namespace

std::uint64_t SplitMix64::next() {
  state_ += 0x9E3779B97F4A7C15u;
  std::uint64_t z = state_;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

Index SplitMix64::below(Index n) {
  return static_cast<Index>(next() % static_cast<std::uint64_t>(n));
}

Load SplitMix64::between(Load low, Load high) {
  return low + static_cast<Load>(next() % static_cast<std::uint64_t>(high - low + 1));
}

double SplitMix64::unit() { return static_cast<double>(next() >> 11) * 0x1p-53; }

const char* shape_name(LoadShape shape) {
  switch (shape) {
    case LoadShape::kUniform:
      return "uniform";
    case LoadShape::kLognormal:
      return "lognormal";
    case LoadShape::kZipf:
      return "zipf";
    case LoadShape::kOneHot:
      return "one-hot";
    case LoadShape::kEqual:
      return "equal";
    case LoadShape::kZero:
      return "zero";
  }
  throw std::invalid_argument("shape");
}

std::vector<Load> make_load(LoadShape shape, Index num_logical, Load total, SplitMix64& random) {
  std::vector<double> weight(num_logical, 0.0);
  for (Index e = 0; e < num_logical; ++e) {
    switch (shape) {
      case LoadShape::kUniform:
        weight[e] = random.unit();
        break;
      case LoadShape::kLognormal:
        weight[e] = rough_exp2(1.5 * rough_normal(random));
        break;
      case LoadShape::kZipf:
        weight[e] = 1.0 / (1.0 + e);
        break;
      case LoadShape::kOneHot:
        weight[e] = e == 0 ? 1.0 : 0.0;
        break;
      case LoadShape::kEqual:
        weight[e] = 1.0;
        break;
      case LoadShape::kZero:
        break;
    }
  }
  shuffle(weight, random);
  return scale_to(weight, total);
}

std::vector<Load> hard_popularity(Index num_logical, double sigma, Load total, SplitMix64& random) {
  std::vector<double> weight;
  for (Index e = 0; e < num_logical; ++e) {
    weight.push_back(rough_exp2(sigma * kPerNaturalUnit * rough_normal(random)));
  }
  return scale_to(weight, total);
}

std::vector<Load> hard_batch(std::span<const Load> popularity, Load total, SplitMix64& random) {
  std::vector<double> weight;
  for (const Load tokens : popularity) {
    weight.push_back(static_cast<double>(tokens) *
                     rough_exp2(0.34 * kPerNaturalUnit * rough_normal(random)));
  }
  return draw_counts(weight, total, random);
}

Placement topology_placement(std::span<const Index> r2o, Index num_columns, Index num_ranks,
                             Index num_logical, Index redundants) {
  const auto group = static_cast<Index>(r2o.size()) / num_columns;
  const Index own = num_logical / num_ranks;
  std::vector<Index> map;
  for (Index rank = 0; rank < num_ranks; ++rank) {
    for (Index i = 0; i < own; ++i) map.push_back(rank * own + i);
    for (Index d = 0; d < redundants; ++d) {
      const Index original =
          rank / group * group + r2o[rank % group * num_columns + d % num_columns];
      map.push_back(original * own + d);
    }
  }
  return make_placement(num_ranks, num_logical, map);
}

Placement greedy_placement(std::span<const Load> load, Index num_replicas, Index num_ranks) {
  const auto num_logical = static_cast<Index>(load.size());
  std::vector<Index> count(num_logical, 1);
  std::vector<Index> slots(num_logical);
  std::iota(slots.begin(), slots.end(), 0);
  const auto share = [&](Index e) { return static_cast<double>(load[e]) / count[e]; };
  for (Index i = 0; i < num_replicas; ++i) {
    Index hottest = 0;
    for (Index e = 1; e < num_logical; ++e) {
      if (count[e] < num_ranks && share(e) > share(hottest)) hottest = e;
    }
    ++count[hottest];
    slots.push_back(hottest);
  }
  std::stable_sort(slots.begin(), slots.end(),
                   [&](Index a, Index b) { return share(a) > share(b); });

  const auto capacity = slots.size() / static_cast<std::size_t>(num_ranks);
  std::vector<std::vector<Index>> on_rank(num_ranks);
  std::vector<double> rank_load(num_ranks, 0.0);
  for (const Index e : slots) {
    // Prefer a rank that has room, then one that has no replica of e, then the least loaded one.
    const auto cost = [&](Index g) {
      const bool full = on_rank[g].size() == capacity;
      const bool twin = std::ranges::find(on_rank[g], e) != on_rank[g].end();
      return std::tuple(full, twin, rank_load[g], g);
    };
    Index best = 0;
    for (Index g = 1; g < num_ranks; ++g) {
      if (cost(g) < cost(best)) best = g;
    }
    on_rank[best].push_back(e);
    rank_load[best] += share(e);
  }
  std::vector<Index> map;
  for (const auto& experts : on_rank) map.insert(map.end(), experts.begin(), experts.end());
  return make_placement(num_ranks, num_logical, map);
}

Index draw_divisor(Index n, Index most, SplitMix64& random) {
  std::vector<Index> all;
  for (Index d = 2; d <= std::min(n, most); ++d) {
    if (n % d == 0) all.push_back(d);
  }
  return all.empty() ? 1 : all[random.below(static_cast<Index>(all.size()))];
}

std::vector<std::string> workload_names() {
  std::vector<std::string> names;
  for (const Shape& shape : std::span(shapes()).first(kNumWorkloads))
    names.emplace_back(shape.name);
  return names;
}

std::vector<std::string> hard_workload_names() {
  std::vector<std::string> names;
  for (const Shape& shape : shapes()) {
    for (const char* kind : {"mild:", "skew:"}) names.push_back(std::string(kind) + shape.name);
  }
  return names;
}

Workload make_workload(const std::string& name, int num_batches, std::uint64_t seed) {
  if (name.starts_with("mild:")) return make_hard_workload(name, 0.5, num_batches, seed);
  if (name.starts_with("skew:")) return make_hard_workload(name, 1.2, num_batches, seed);
  const Shape& shape = find_shape(name);
  SplitMix64 random(seed);
  const Load total = Load{4096} * 8 * shape.num_ranks;
  std::vector<Load> popularity = make_load(LoadShape::kLognormal, shape.num_logical, total, random);
  Workload workload{name, place_for(shape, popularity), {}};
  for (int batch = 0; batch < num_batches; ++batch) {
    std::vector<double> weight;
    for (const Load tokens : popularity) {
      weight.push_back(static_cast<double>(tokens) * rough_exp2(0.5 * rough_normal(random)));
    }
    workload.loads.push_back(scale_to(weight, total));
  }
  return workload;
}

Instance random_instance(std::uint64_t seed, const RandomLimits& limits) {
  SplitMix64 random(seed);
  const Index num_ranks = 1 + random.below(limits.max_ranks);
  const Index slots = 1 + random.below(limits.max_slots_per_rank);
  const Index num_physical = num_ranks * slots;
  const Index num_logical = 1 + random.below(num_physical);

  PlacementOptions options;
  const bool some_dead = limits.dead_ranks && num_ranks > 1 && random.below(4) == 0;
  Index num_live = num_ranks;
  if (some_dead) {
    options.rank_alive.assign(num_ranks, 1);
    for (Index g = 0; g < num_ranks; ++g) {
      // Enough live slots must remain for all experts.
      if (random.below(4) == 0 && (num_live - 1) * slots >= num_logical) {
        options.rank_alive[g] = 0;
        --num_live;
      }
    }
  }
  if (limits.speeds && random.below(3) == 0) {
    static constexpr std::array kSpeeds = {0.1, 0.5, 0.75, 1.0, 1.0, 1.3, 2.0, 3.0, 7.0};
    for (Index g = 0; g < num_ranks; ++g) {
      options.rank_speed.push_back(kSpeeds[random.below(static_cast<Index>(kSpeeds.size()))]);
    }
  }

  // Every expert gets one live slot. The remaining slots are filled at random, from few or many
  // experts.
  std::vector<Index> live_slots;
  for (Index p = 0; p < num_physical; ++p) {
    if (options.rank_alive.empty() || options.rank_alive[p / slots] != 0) live_slots.push_back(p);
  }
  if (random.below(2) == 0) shuffle(live_slots, random);
  std::vector<Index> map(num_physical, -1);
  for (Index e = 0; e < num_logical; ++e) map[live_slots[e]] = e;
  const Index replicated = 1 + random.below(num_logical);
  for (Index& e : map) {
    if (e < 0) e = random.below(replicated);
  }

  Instance instance;
  instance.name = "random " + std::to_string(seed);
  instance.placement = make_placement(num_ranks, num_logical, map, options);
  const Load top = random.between(0, limits.max_load);
  const Index zeros = random.below(4);
  for (Index e = 0; e < num_logical; ++e) {
    const bool hot = random.below(4) == 0;
    const bool empty = random.below(4) < zeros;
    instance.load.push_back(empty ? 0 : random.between(0, hot ? top : top / 8));
  }
  return instance;
}

}  // namespace lplb::testing
