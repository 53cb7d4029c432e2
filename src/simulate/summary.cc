// SPDX-License-Identifier: MIT
#include "simulate/summary.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace lplb::replay {
namespace {

/// Replaces row i by the sum of rows 2i and 2i + 1, for the first half of the rows, and sets the
/// second half to zero. `rows` must be even.
void fold_rows(std::vector<double>& sums, std::size_t rows) {
  const std::size_t width = sums.size() / rows;
  for (std::size_t row = 0; row < rows; ++row) {
    for (std::size_t i = 0; i < width; ++i) {
      sums[row * width + i] =
          row < rows / 2 ? sums[2 * row * width + i] + sums[(2 * row + 1) * width + i] : 0.0;
    }
  }
}

}  // namespace

Distribution summarize(std::span<double> values) {
  if (values.empty()) return {};
  std::sort(values.begin(), values.end());
  const auto percentile = [&](double p) {
    const double at = p * static_cast<double>(values.size() - 1);
    const auto below = static_cast<std::size_t>(at);
    const std::size_t above = std::min(below + 1, values.size() - 1);
    return values[below] + (values[above] - values[below]) * (at - static_cast<double>(below));
  };
  const double sum = std::accumulate(values.begin(), values.end(), 0.0);
  return {sum / static_cast<double>(values.size()), percentile(0.50), percentile(0.95),
          percentile(0.99), values.back()};
}

Summary::Summary(const SimulateOptions& options, const TraceInfo& trace)
    : num_ranks_(static_cast<std::size_t>(options.num_ranks)),
      num_layers_(static_cast<std::size_t>(trace.num_layers)),
      warm_up_(options.warm_up),
      has_cost_(options.cost.has_value()),
      expert_bytes_(static_cast<double>(options.expert_bytes)),
      round_cost_(options.controller ? std::optional(options.controller->round_cost)
                                     : std::nullopt),
      layer_pairs_(num_layers_, 0.0),
      bucket_pairs_(kMaxBuckets, 0.0),
      layer_bucket_pairs_(kMaxBuckets * num_layers_, 0.0),
      policies_(options.policies.size()) {
  for (std::size_t i = 0; i < policies_.size(); ++i) {
    policies_[i].report.name = options.policies[i];
    policies_[i].report.layer_max.assign(num_layers_, std::nan(""));
    policies_[i].layer.assign(num_layers_, 0.0);
    policies_[i].bucket.assign(kMaxBuckets, 0.0);
    policies_[i].heat.assign(kMaxBuckets * num_ranks_, 0.0);
    policies_[i].layer_bucket.assign(kMaxBuckets * num_layers_, 0.0);
    if (num_layers_ * num_ranks_ <= kMaxLayerRanks) {
      policies_[i].layer_heat.assign(kMaxBuckets * num_layers_ * num_ranks_, 0.0);
    }
    if (parse_policy(options.policies[i]).dynamic_slots > 0) {
      policies_[i].report.copies.emplace();
    }
    if (!has_cost_) continue;
    policies_[i].report.cost.emplace();
    policies_[i].layer_cost.assign(num_layers_, 0.0);
  }
}

void Summary::add(const BlockOutcome& block, const Player& player) {
  const std::size_t pairs = num_layers_ * block.size;
  for (std::size_t i = 0; i < block.size; ++i) {
    const std::int64_t batch = num_batches_++;
    const std::size_t bucket = bucket_of(batch);
    for (std::size_t layer = 0; layer < num_layers_; ++layer) {
      const bool has_tokens = block.has_tokens[i * num_layers_ + layer] != 0;
      const bool counted = batch >= warm_up_;
      if (counted && !has_tokens) ++num_empty_pairs_;
      if (!counted) continue;
      const std::size_t pair = layer * block.size + i;
      if (has_tokens) {
        ++num_pairs_;
        ++layer_pairs_[layer];
        ++bucket_pairs_[bucket];
        ++layer_bucket_pairs_[bucket * num_layers_ + layer];
        for (std::size_t at = pair; at < block.placement.size(); at += pairs) {
          const PlacementOutcome& placed = block.placement[at];
          num_solves_ += player.solves_of(at / pairs);
          num_cuda_solves_ += placed.exact.backend == Backend::kCuda;
          num_cuda_solves_ += placed.time.backend == Backend::kCuda;
        }
      }
      for (std::size_t p = 0; p < policies_.size(); ++p) {
        const PlacementOutcome& placed = block.placement[player.placement_of(p) * pairs + pair];
        if (placed.moved >= 0) {
          ++policies_[p].report.rebalances;
          policies_[p].report.moved_experts += placed.moved;
          policies_[p].report.rounds += placed.rounds;
          if (placed.decision.kind != Rebalance::kKeep) {
            policies_[p].report.decisions.push_back(
                {batch, static_cast<Index>(layer), placed.decision});
          }
        }
        if (!has_tokens) continue;
        const std::size_t item = p * pairs + pair;
        add_outcome(policies_[p], layer, bucket, block.policy[item],
                    std::span(block.heat).subspan(item * num_ranks_, num_ranks_));
        add_cost(policies_[p], layer, block.policy[item]);
        add_copies(policies_[p], block.policy[item].copies);
        if (player.split_of(p) == SplitKind::kExact) add_solve(policies_[p], placed.exact);
        if (player.split_of(p) == SplitKind::kTime) add_solve(policies_[p], placed.time);
      }
    }
  }
}

/// Returns the bucket of a batch. NOTE: if the batch does not fit into the last bucket, this
/// doubles the width of all buckets.
std::size_t Summary::bucket_of(std::int64_t batch) {
  while (batch / bucket_width_ >= static_cast<std::int64_t>(kMaxBuckets)) {
    bucket_width_ *= 2;
    fold_rows(bucket_pairs_, kMaxBuckets);
    fold_rows(layer_bucket_pairs_, kMaxBuckets);
    for (Sums& sums : policies_) {
      fold_rows(sums.bucket, kMaxBuckets);
      fold_rows(sums.heat, kMaxBuckets);
      fold_rows(sums.layer_bucket, kMaxBuckets);
      fold_rows(sums.layer_heat, kMaxBuckets);
    }
  }
  return static_cast<std::size_t>(batch / bucket_width_);
}

void Summary::add_outcome(Sums& sums, std::size_t layer, std::size_t bucket,
                          const PolicyOutcome& outcome, std::span<const double> heat) {
  sums.imbalance.push_back(outcome.imbalance);
  sums.layer[layer] += outcome.imbalance;
  sums.bucket[bucket] += outcome.imbalance;
  const std::size_t cell = bucket * num_layers_ + layer;
  sums.layer_bucket[cell] += outcome.imbalance;
  double& layer_max = sums.report.layer_max[layer];
  layer_max = std::fmax(layer_max, outcome.imbalance);
  sums.slowest += outcome.slowest;
  if (outcome.slowest > 0) sums.mean += outcome.slowest / outcome.imbalance;
  sums.gap += outcome.gap;
  sums.report.gap_max = std::max(sums.report.gap_max, outcome.gap);
  sums.local += outcome.local;
  sums.total += outcome.total;
  for (std::size_t r = 0; r < num_ranks_; ++r) sums.heat[bucket * num_ranks_ + r] += heat[r];
  if (sums.layer_heat.empty()) return;
  for (std::size_t r = 0; r < num_ranks_; ++r) sums.layer_heat[cell * num_ranks_ + r] += heat[r];
}

void Summary::add_cost(Sums& sums, std::size_t layer, const PolicyOutcome& outcome) {
  if (!sums.report.cost) return;
  CostReport& report = *sums.report.cost;
  sums.cost.push_back(outcome.cost);
  sums.layer_cost[layer] += outcome.cost;
  sums.cost_gap += outcome.cost_gap;
  report.gap_max = std::max(outcome.cost_gap, report.gap_max);  // NaN if the gap is
}

void Summary::add_copies(Sums& sums, const CopyOutcome& outcome) {
  if (!sums.report.copies) return;
  sums.copies += outcome.made;
  sums.busiest += outcome.busiest;
  sums.exposed_us += outcome.exposed_us;
  sums.report.copies->max = std::max<std::int64_t>(sums.report.copies->max, outcome.made);
  add_solve(sums, {outcome.optimal, Backend::kCpu, outcome.plan_us});
}

void Summary::add_solve(Sums& sums, const SolveOutcome& outcome) {
  ++sums.report.solves;
  sums.report.optimal += outcome.optimal;
  sums.solve_us.push_back(outcome.us);
}

void Summary::finish(SimulateReport& report) {
  report.num_batches = num_batches_;
  report.num_pairs = num_pairs_;
  report.num_empty_pairs = num_empty_pairs_;
  report.num_solves = num_solves_;
  report.num_cuda_solves = num_cuda_solves_;
  for (std::int64_t first = 0; first < num_batches_; first += bucket_width_) {
    report.bucket_start.push_back(first);
  }
  for (Sums& sums : policies_) {
    finish_policy(sums);
    report.policies.push_back(std::move(sums.report));
  }
}

void Summary::finish_policy(Sums& sums) const {
  PolicyReport& report = sums.report;
  report.gap_mean = sums.gap / static_cast<double>(num_pairs_);
  report.imbalance = summarize(sums.imbalance);
  report.solve_us = summarize(sums.solve_us);
  if (report.rebalances > 0) {
    report.moved_experts_mean =
        static_cast<double>(report.moved_experts) / static_cast<double>(report.rebalances);
  }
  if (sums.total > 0) report.local_share = sums.local / sums.total;
  for (std::size_t layer = 0; layer < num_layers_; ++layer) {
    report.layer_mean.push_back(sums.layer[layer] / layer_pairs_[layer]);
  }
  if (report.cost) {
    report.cost->max = summarize(sums.cost);
    report.cost->gap_mean = sums.cost_gap / static_cast<double>(num_pairs_);
    for (std::size_t layer = 0; layer < num_layers_; ++layer) {
      report.cost->layer_mean.push_back(sums.layer_cost[layer] / layer_pairs_[layer]);
    }
  }

  if (report.copies) {
    const auto pairs = static_cast<double>(num_pairs_);
    report.copies->mean = sums.copies / pairs;
    report.copies->mean_bytes = report.copies->mean * expert_bytes_;
    report.copies->busiest_mean = sums.busiest / pairs;
    report.copies->exposed_us_mean = sums.exposed_us / pairs;
  }
  if (round_cost_) {
    const double moves = static_cast<double>(report.rounds) * *round_cost_;
    report.charged = report.cost ? report.cost->max.mean + moves / static_cast<double>(num_pairs_)
                                 : (sums.slowest + moves) / sums.mean;
  }

  const auto buckets = static_cast<std::size_t>((num_batches_ + bucket_width_ - 1) / bucket_width_);
  report.rank_heat.resize(num_ranks_ * buckets);
  for (std::size_t b = 0; b < buckets; ++b) {
    report.over_time.push_back(sums.bucket[b] / bucket_pairs_[b]);
    for (std::size_t r = 0; r < num_ranks_; ++r) {
      report.rank_heat[r * buckets + b] = sums.heat[b * num_ranks_ + r] / bucket_pairs_[b];
    }
  }
  finish_layers(sums, buckets);
}

void Summary::finish_layers(Sums& sums, std::size_t buckets) const {
  PolicyReport& report = sums.report;
  if (!sums.layer_heat.empty()) report.layer_rank_heat.resize(num_layers_ * num_ranks_ * buckets);
  for (std::size_t layer = 0; layer < num_layers_; ++layer) {
    for (std::size_t b = 0; b < buckets; ++b) {
      const std::size_t cell = b * num_layers_ + layer;
      report.layer_over_time.push_back(sums.layer_bucket[cell] / layer_bucket_pairs_[cell]);
      if (sums.layer_heat.empty()) continue;
      for (std::size_t r = 0; r < num_ranks_; ++r) {
        report.layer_rank_heat[(layer * num_ranks_ + r) * buckets + b] =
            sums.layer_heat[cell * num_ranks_ + r] / layer_bucket_pairs_[cell];
      }
    }
  }
}

}  // namespace lplb::replay
