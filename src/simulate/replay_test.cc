// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <numeric>

#include "lplb/placement.h"
#include "lplb/simulate.h"
#include "simulate/test_options.h"

namespace lplb {
namespace {

/// Replays a trace in the plainest way. It uses the library's EPLB and plan of moves, and no other
/// code of the library.
struct Plain {
  std::vector<std::vector<double>> even;   // [layer][batch]: imbalance of the even split
  std::vector<std::vector<double>> exact;  // the same of the best split
  std::int64_t moved = 0;
  std::int64_t rebalances = 0;
  std::vector<double> heat;  // [num_ranks]: load / mean of the even split, summed

  explicit Plain(const SimulateOptions& o) : heat(static_cast<std::size_t>(o.num_ranks)) {
    const auto reader = open_trace(o.trace, o.synthetic);
    std::vector<std::vector<Load>> steps;
    for (TraceStep step; reader->next(step);) steps.push_back(step.load);
    const auto experts = static_cast<std::size_t>(reader->info().num_logical_experts);
    const Index slots = static_cast<Index>(experts) + o.redundants * o.num_ranks;
    for (Index layer = 0; layer < reader->info().num_layers; ++layer) {
      const std::size_t offset = static_cast<std::size_t>(layer) * experts;
      std::vector<Index> map;
      even.emplace_back();
      exact.emplace_back();
      for (std::size_t b = 0; b < steps.size(); ++b) {
        if (b % static_cast<std::size_t>(o.rebalance_every) == 0) {
          std::vector<double> past(experts, b == 0 ? 1.0 : 0.0);
          for (std::size_t i = b; i-- > 0 && b - i <= static_cast<std::size_t>(o.window);) {
            for (std::size_t e = 0; e < experts; ++e) {
              past[e] += static_cast<double>(steps[i][offset + e]);
            }
          }
          const std::vector<Index> next =
              rebalance_experts(past, 1, static_cast<Index>(experts), slots, o.num_groups,
                                o.num_nodes, o.num_ranks, {.spread = b == 0})
                  .physical_to_logical;
          if (b > 0) count_moves(map, next, o.num_ranks, reader->info().num_logical_experts);
          map = next;
        }
        even.back().push_back(split_evenly_by_hand(experts, map, steps[b].data() + offset));
        exact.back().push_back(best_by_subsets(experts, map, steps[b].data() + offset));
      }
    }
  }

  void count_moves(const std::vector<Index>& from, const std::vector<Index>& to, Index num_ranks,
                   Index experts) {
    ++rebalances;
    for (const Move& move : plan_moves(make_placement(num_ranks, experts, from),
                                       make_placement(num_ranks, experts, to))) {
      moved += move.kind != MoveKind::kSameRank;
    }
  }

  double split_evenly_by_hand(std::size_t experts, const std::vector<Index>& map,
                              const Load* load) {
    std::vector<double> rank(heat.size(), 0.0);
    const std::size_t per_rank = map.size() / rank.size();
    for (std::size_t e = 0; e < experts; ++e) {
      std::vector<std::size_t> slots;
      for (std::size_t s = 0; s < map.size(); ++s) {
        if (map[s] == static_cast<Index>(e)) slots.push_back(s);
      }
      // Tokens go to replicas one by one, beginning with replica e mod count.
      for (Load t = 0; t < load[e]; ++t) {
        rank[slots[(e + static_cast<std::size_t>(t)) % slots.size()] / per_rank] += 1;
      }
    }
    const double mean = std::accumulate(rank.begin(), rank.end(), 0.0) / 8;
    for (std::size_t r = 0; r < rank.size(); ++r) heat[r] += rank[r] / mean;
    return *std::max_element(rank.begin(), rank.end()) / mean;
  }

  /// The tokens that can only go to a set of ranks, divided by the number of these ranks, bound
  /// every split from below. The best split reaches the largest of these bounds.
  double best_by_subsets(std::size_t experts, const std::vector<Index>& map,
                         const Load* load) const {
    std::vector<unsigned> ranks(experts, 0);
    for (std::size_t s = 0; s < map.size(); ++s) {
      ranks[static_cast<std::size_t>(map[s])] |= 1u << (s / (map.size() / heat.size()));
    }
    Load most = 0;
    for (unsigned set = 1; set < 1u << heat.size(); ++set) {
      Load confined = 0;
      for (std::size_t e = 0; e < experts; ++e) {
        if ((ranks[e] & ~set) == 0) confined += load[e];
      }
      most = std::max(most, (confined + std::popcount(set) - 1) / std::popcount(set));
    }
    const auto total = static_cast<double>(std::accumulate(load, load + experts, Load{0}));
    return static_cast<double>(most) * static_cast<double>(heat.size()) / total;
  }
};

std::vector<double> sorted_pairs(const std::vector<std::vector<double>>& layers) {
  std::vector<double> all;
  for (const std::vector<double>& layer : layers) all.insert(all.end(), layer.begin(), layer.end());
  std::sort(all.begin(), all.end());
  return all;
}

double plain_mean(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

TEST(ReplayTest, FiguresAreThoseOfAPlainRecomputation) {
  for (const Index interval : {1, 4}) {
    SimulateOptions options = testing::small_replay();
    options.policies = {"eplb+lplb", "eplb"};
    options.window = 3;
    options.rebalance_every = interval;
    options.num_threads = 2;
    const SimulateReport report = simulate(options);
    const Plain plain(options);
    for (const PolicyReport& got : report.policies) {
      const auto& layers = got.name == "eplb" ? plain.even : plain.exact;
      for (std::size_t layer = 0; layer < 3; ++layer) {
        EXPECT_NEAR(got.layer_mean[layer], plain_mean(layers[layer]), 1e-12);
        EXPECT_NEAR(got.layer_max[layer],
                    *std::max_element(layers[layer].begin(), layers[layer].end()), 1e-12);
      }
      for (std::size_t b = 0; b < 20; ++b) {
        EXPECT_NEAR(got.over_time[b], (layers[0][b] + layers[1][b] + layers[2][b]) / 3, 1e-12);
      }
      const std::vector<double> all = sorted_pairs(layers);
      EXPECT_NEAR(got.imbalance.mean, plain_mean(all), 1e-12);
      EXPECT_NEAR(got.imbalance.p50, (all[29] + all[30]) / 2, 1e-12);
      EXPECT_NEAR(got.imbalance.p95, all[56] + 0.05 * (all[57] - all[56]), 1e-12);
      EXPECT_NEAR(got.imbalance.max, all[59], 1e-12);
      EXPECT_EQ(got.rebalances, plain.rebalances);
      EXPECT_EQ(got.moved_experts, plain.moved);
      EXPECT_NEAR(got.moved_experts_mean,
                  static_cast<double>(plain.moved) / static_cast<double>(plain.rebalances), 1e-12);
    }
    const PolicyReport& even = report.policies[1];
    double gap = 0;
    for (std::size_t layer = 0; layer < 3; ++layer) {
      for (std::size_t b = 0; b < 20; ++b) {
        gap += plain.even[layer][b] / plain.exact[layer][b] - 1;
      }
    }
    EXPECT_NEAR(even.gap_mean, gap / 60, 1e-12);
    for (std::size_t r = 0; r < 8; ++r) {
      const auto row = even.rank_heat.begin() + static_cast<std::ptrdiff_t>(r) * 20;
      EXPECT_NEAR(std::accumulate(row, row + 20, 0.0), plain.heat[r] / 3, 1e-9);
    }
  }
}

TEST(ReplayTest, BucketsHoldEquallyManyBatches) {
  SimulateOptions options = testing::small_replay();
  options.policies = {"eplb"};
  options.redundants = 0;
  options.rebalance_every = 50;
  options.synthetic.num_layers = 1;
  options.synthetic.num_tokens = 16;
  options.synthetic.num_steps = 299;
  const SimulateReport report = simulate(options);
  ASSERT_EQ(report.bucket_start.size(), 75u);  // buckets of four batches, and a last one of three
  EXPECT_EQ(report.bucket_start[74], 296);
  const Plain plain(options);
  for (std::size_t b = 0; b < 75; ++b) {
    const auto first = plain.even[0].begin() + static_cast<std::ptrdiff_t>(4 * b);
    EXPECT_NEAR(report.policies[0].over_time[b],
                plain_mean({first, std::min(first + 4, plain.even[0].end())}), 1e-12)
        << b;
  }
}

}  // namespace
}  // namespace lplb
