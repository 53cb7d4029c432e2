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
      policies_(options.policies.size()) {
  for (std::size_t i = 0; i < policies_.size(); ++i) {
    policies_[i].report.name = options.policies[i];
    policies_[i].report.layer_max.assign(num_layers_, 0.0);
    policies_[i].layer.assign(num_layers_, 0.0);
    policies_[i].bucket.assign(kMaxBuckets, 0.0);
    policies_[i].heat.assign(kMaxBuckets * num_ranks_, 0.0);
  }
}

void Summary::add(const BlockOutcome& block, const Player& player) {
  for (const PlacementOutcome& outcome : block.placement) {
    ++num_solves_;
    num_cuda_solves_ += outcome.backend == Backend::kCuda;
  }
  for (std::size_t i = 0; i < block.size; ++i) {
    const std::size_t bucket = bucket_of(num_batches_++);
    for (std::size_t p = 0; p < policies_.size(); ++p) {
      for (std::size_t layer = 0; layer < num_layers_; ++layer) {
        const std::size_t item = (p * num_layers_ + layer) * block.size + i;
        add_outcome(policies_[p], layer, bucket, block.policy[item],
                    std::span(block.rank_heat).subspan(item * num_ranks_, num_ranks_));
        const std::size_t placed = player.placement_of(p) * num_layers_ + layer;
        add_placement(policies_[p], player.split_of(p), block.placement[placed * block.size + i]);
      }
    }
  }
}

/// Returns the bucket of a batch. NOTE: if the batch does not fit into the last bucket, this
/// doubles the width of all buckets.
std::size_t Summary::bucket_of(std::int64_t batch) {
  while (batch / bucket_width_ >= static_cast<std::int64_t>(kMaxBuckets)) {
    bucket_width_ *= 2;
    for (Sums& sums : policies_) {
      fold_rows(sums.bucket, kMaxBuckets);
      fold_rows(sums.heat, kMaxBuckets);
    }
  }
  return static_cast<std::size_t>(batch / bucket_width_);
}

void Summary::add_outcome(Sums& sums, std::size_t layer, std::size_t bucket,
                          const PolicyOutcome& outcome, std::span<const double> rank_heat) {
  sums.imbalance.push_back(outcome.imbalance);
  sums.layer[layer] += outcome.imbalance;
  sums.bucket[bucket] += outcome.imbalance;
  double& layer_max = sums.report.layer_max[layer];
  layer_max = std::max(layer_max, outcome.imbalance);
  sums.gap += outcome.gap;
  sums.report.gap_max = std::max(sums.report.gap_max, outcome.gap);
  sums.local += outcome.local;
  sums.total += outcome.total;
  for (std::size_t r = 0; r < num_ranks_; ++r) {
    sums.heat[bucket * num_ranks_ + r] += rank_heat[r];
  }
}

void Summary::add_placement(Sums& sums, SplitKind split, const PlacementOutcome& outcome) {
  if (outcome.moved >= 0) {
    ++sums.report.rebalances;
    sums.report.moved_experts += outcome.moved;
  }
  if (split != SplitKind::kExact) return;
  ++sums.report.solves;
  sums.report.optimal += outcome.optimal;
  sums.solve_us.push_back(outcome.solve_us);
}

void Summary::finish(SimulateReport& report) {
  report.num_batches = num_batches_;
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
  const auto batches = static_cast<double>(num_batches_);
  report.gap_mean = sums.gap / static_cast<double>(sums.imbalance.size());
  report.imbalance = summarize(sums.imbalance);
  report.solve_us = summarize(sums.solve_us);
  if (report.rebalances > 0) {
    report.moved_experts_mean =
        static_cast<double>(report.moved_experts) / static_cast<double>(report.rebalances);
  }
  if (sums.total > 0) report.local_share = sums.local / sums.total;
  for (const double sum : sums.layer) report.layer_mean.push_back(sum / batches);

  const auto buckets = static_cast<std::size_t>((num_batches_ + bucket_width_ - 1) / bucket_width_);
  report.rank_heat.resize(num_ranks_ * buckets);
  for (std::size_t b = 0; b < buckets; ++b) {
    const std::int64_t first = static_cast<std::int64_t>(b) * bucket_width_;
    const auto pairs = static_cast<double>(std::min(bucket_width_, num_batches_ - first) *
                                           static_cast<std::int64_t>(num_layers_));
    report.over_time.push_back(sums.bucket[b] / pairs);
    for (std::size_t r = 0; r < num_ranks_; ++r) {
      report.rank_heat[r * buckets + b] = sums.heat[b * num_ranks_ + r] / pairs;
    }
  }
}

}  // namespace lplb::replay
