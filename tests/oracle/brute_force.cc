// SPDX-License-Identifier: MIT
#include "oracle/brute_force.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <queue>
#include <set>
#include <stdexcept>
#include <vector>

namespace lplb::oracle {
namespace {

__extension__ typedef __int128 Wide;

// A product that does not fit would make a comparison wrong, so it throws.
Wide multiply(Wide a, Wide b) {
  Wide product = 0;
  if (__builtin_mul_overflow(a, b, &product)) throw std::range_error("speeds are too far apart");
  return product;
}

// The speeds as integers. Each speed is a 53-bit integer times a power of two, so dividing all by
// the smallest power rounds nothing.
std::vector<Wide> integer_speeds(const Placement& placement) {
  std::vector<Wide> speeds(placement.num_ranks, 1);
  if (placement.rank_speed.empty()) return speeds;
  std::vector<int> exponents;
  int lowest = std::numeric_limits<int>::max();
  for (Index g = 0; g < placement.num_ranks; ++g) {
    int exponent = 0;
    const double fraction = std::frexp(placement.rank_speed[g], &exponent);
    auto mantissa = static_cast<Load>(std::ldexp(fraction, 53));
    exponent -= 53;
    for (; mantissa % 2 == 0; mantissa /= 2) ++exponent;
    speeds[g] = mantissa;
    exponents.push_back(exponent);
    lowest = std::min(lowest, exponent);
  }
  for (Index g = 0; g < placement.num_ranks; ++g) {
    for (int e = exponents[g]; e > lowest; --e) speeds[g] = multiply(speeds[g], 2);
  }
  return speeds;
}

bool is_alive(const Placement& placement, Index rank) {
  return placement.rank_alive.empty() || placement.rank_alive[rank] != 0;
}

// The distinct live ranks of each expert.
std::vector<std::set<Index>> live_ranks(const Placement& placement) {
  std::vector<std::set<Index>> ranks(placement.num_logical_experts);
  const std::size_t slots = placement.physical_to_logical.size() / placement.num_ranks;
  for (std::size_t p = 0; p < placement.physical_to_logical.size(); ++p) {
    const auto rank = static_cast<Index>(p / slots);
    if (is_alive(placement, rank)) ranks[placement.physical_to_logical[p]].insert(rank);
  }
  return ranks;
}

Load total_of(std::span<const Load> load) {
  Wide total = 0;
  for (const Load tokens : load) total += tokens;
  if (total > Wide{3} << 61) throw std::range_error("loads sum to more than 2^62 + 2^61");
  return static_cast<Load>(total);
}

// Finds the maximum flow from node 0 to node 1.
class FlowNetwork {
 public:
  explicit FlowNetwork(std::size_t num_nodes) : edges_of_(num_nodes) {}

  void add_edge(std::size_t from, std::size_t to, Load capacity) {
    edges_of_[from].push_back(edges_.size());
    edges_.push_back({to, capacity});
    edges_of_[to].push_back(edges_.size());
    edges_.push_back({from, 0});
  }

  Load max_flow() {
    Load flow = 0;
    while (find_levels()) {
      next_.assign(edges_of_.size(), 0);
      while (const Load pushed = push(0, std::numeric_limits<Load>::max())) flow += pushed;
    }
    return flow;
  }

 private:
  struct Edge {
    std::size_t to;
    Load residual;
  };

  bool find_levels() {
    level_.assign(edges_of_.size(), -1);
    level_[0] = 0;
    std::queue<std::size_t> open({0});
    for (; !open.empty(); open.pop()) {
      for (const std::size_t i : edges_of_[open.front()]) {
        if (edges_[i].residual > 0 && level_[edges_[i].to] < 0) {
          level_[edges_[i].to] = level_[open.front()] + 1;
          open.push(edges_[i].to);
        }
      }
    }
    return level_[1] >= 0;
  }

  Load push(std::size_t node, Load limit) {
    if (node == 1) return limit;
    for (; next_[node] < edges_of_[node].size(); ++next_[node]) {
      const std::size_t i = edges_of_[node][next_[node]];
      if (edges_[i].residual == 0 || level_[edges_[i].to] != level_[node] + 1) continue;
      if (const Load pushed = push(edges_[i].to, std::min(limit, edges_[i].residual))) {
        edges_[i].residual -= pushed;
        edges_[i ^ 1].residual += pushed;
        return pushed;
      }
    }
    return 0;
  }

  std::vector<std::vector<std::size_t>> edges_of_;
  std::vector<Edge> edges_;
  std::vector<int> level_;
  std::vector<std::size_t> next_;
};

class FlowSearch {
 public:
  FlowSearch(const Placement& placement, std::span<const Load> load)
      : load_(load),
        total_(total_of(load)),
        speeds_(integer_speeds(placement)),
        ranks_(live_ranks(placement)) {
    for (Index g = 0; g < placement.num_ranks; ++g) {
      if (is_alive(placement, g)) live_.push_back(g);
    }
  }

  Value run() {
    Value best{total_, live_.front()};
    while (!reachable(best)) best = {total_, slower_than(best.rank)};
    for (const Index g : live_) {
      // The largest number of tokens on this rank that would be better than `best`.
      const Wide scaled = multiply(best.tokens, speeds_[g]);
      const Load below = static_cast<Load>(
          std::min<Wide>((scaled + speeds_[best.rank] - 1) / speeds_[best.rank] - 1, total_));
      if (below < 0 || !reachable({below, g})) continue;
      Load low = -1;
      Load high = below;
      while (high - low > 1) {
        const Load middle = low + (high - low) / 2;
        (reachable({middle, g}) ? high : low) = middle;
      }
      best = {high, g};
    }
    return best;
  }

 private:
  Index slower_than(Index rank) const {
    for (const Index g : live_) {
      if (speeds_[g] < speeds_[rank]) return g;
    }
    throw std::logic_error("every token on the slowest rank must be reachable");
  }

  bool reachable(Value t) const {
    FlowNetwork network(2 + ranks_.size() + speeds_.size());
    const std::size_t first_rank = 2 + ranks_.size();
    for (std::size_t e = 0; e < ranks_.size(); ++e) {
      network.add_edge(0, 2 + e, load_[e]);
      for (const Index g : ranks_[e]) network.add_edge(2 + e, first_rank + g, load_[e]);
    }
    for (const Index g : live_) {
      const Wide capacity = multiply(t.tokens, speeds_[g]) / speeds_[t.rank];
      network.add_edge(first_rank + g, 1, static_cast<Load>(std::min<Wide>(capacity, total_)));
    }
    return network.max_flow() == total_;
  }

  std::span<const Load> load_;
  Load total_;
  std::vector<Wide> speeds_;
  std::vector<std::set<Index>> ranks_;
  std::vector<Index> live_;
};

class Enumeration {
 public:
  Enumeration(const Placement& placement, std::span<const Load> load)
      : placement_(placement), load_(load), rank_load_(placement.num_ranks, 0) {
    for (const auto& ranks : live_ranks(placement)) {
      ranks_.emplace_back(ranks.begin(), ranks.end());
    }
  }

  // Counts the splits: for each expert the ways to write its load as an ordered sum over its ranks,
  // all multiplied. Stops above `limit`.
  bool has_more_splits_than(std::int64_t limit) const {
    Wide splits = 1;
    for (std::size_t e = 0; e < ranks_.size(); ++e) {
      Wide ways = 1;
      for (std::size_t k = 1; k < ranks_[e].size(); ++k) {
        ways = ways * (load_[e] + static_cast<Load>(k)) / static_cast<Load>(k);
        if (ways > limit) return true;
      }
      splits *= ways;
      if (splits > limit) return true;
    }
    return false;
  }

  Value run() {
    place(0, 0, load_.empty() ? 0 : load_[0]);
    return *best_;
  }

 private:
  // Gives `rest` tokens of expert e to its ranks from the k-th on, then goes on to the next expert.
  void place(std::size_t e, std::size_t k, Load rest) {
    if (e == ranks_.size()) {
      const Value value = value_of(placement_, rank_load_);
      if (!best_ || compare(placement_, value, *best_) < 0) best_ = value;
      return;
    }
    const Index g = ranks_[e][k];
    const bool last = k + 1 == ranks_[e].size();
    for (Load tokens = last ? rest : 0; tokens <= rest; ++tokens) {
      rank_load_[g] += tokens;
      if (last) {
        place(e + 1, 0, e + 1 < load_.size() ? load_[e + 1] : 0);
      } else {
        place(e, k + 1, rest - tokens);
      }
      rank_load_[g] -= tokens;
    }
  }

  const Placement& placement_;
  std::span<const Load> load_;
  std::vector<Load> rank_load_;
  std::vector<std::vector<Index>> ranks_;
  std::optional<Value> best_;
};

}  // namespace

int compare(const Placement& placement, Value a, Value b) {
  const std::vector<Wide> speeds = integer_speeds(placement);
  const Wide left = multiply(a.tokens, speeds[b.rank]);
  const Wide right = multiply(b.tokens, speeds[a.rank]);
  return (left > right) - (left < right);
}

double as_double(const Placement& placement, Value value) {
  const double speed = placement.rank_speed.empty() ? 1.0 : placement.rank_speed[value.rank];
  return static_cast<double>(value.tokens) / speed;
}

Value value_of(const Placement& placement, std::span<const Load> rank_load) {
  Value worst{rank_load[0], 0};
  for (Index g = 1; g < placement.num_ranks; ++g) {
    if (compare(placement, {rank_load[g], g}, worst) > 0) worst = {rank_load[g], g};
  }
  return worst;
}

Value optimum(const Placement& placement, std::span<const Load> load) {
  return FlowSearch(placement, load).run();
}

std::optional<Value> optimum_by_enumeration(const Placement& placement, std::span<const Load> load,
                                            std::int64_t max_splits) {
  Enumeration enumeration(placement, load);
  if (enumeration.has_more_splits_than(max_splits)) return std::nullopt;
  return enumeration.run();
}

bool certifies(const Placement& placement, std::span<const Load> load, Value t,
               std::span<const Index> set) {
  if (t.tokens == 0) return true;
  const std::vector<Wide> speeds = integer_speeds(placement);
  std::vector<char> in_set(placement.num_ranks, 0);
  for (const Index g : set) in_set.at(g) = 1;
  const Load total = total_of(load);

  Wide room = 0;
  for (Index g = 0; g < placement.num_ranks; ++g) {
    if (in_set[g] == 0 || !is_alive(placement, g)) continue;
    const Wide tokens = (multiply(t.tokens, speeds[g]) + speeds[t.rank] - 1) / speeds[t.rank];
    room += std::min<Wide>(tokens - 1, total);
  }
  Wide bound = 0;
  const std::vector<std::set<Index>> ranks = live_ranks(placement);
  for (std::size_t e = 0; e < ranks.size(); ++e) {
    if (std::ranges::all_of(ranks[e], [&](Index g) { return in_set[g] != 0; })) bound += load[e];
  }
  return room < bound;
}

}  // namespace lplb::oracle
