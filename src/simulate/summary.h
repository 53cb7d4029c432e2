// SPDX-License-Identifier: MIT
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "simulate/player.h"

namespace lplb::replay {

/// The figures of `values`, as Distribution defines them. All are 0 if `values` is empty. Sorts
/// `values`.
Distribution summarize(std::span<double> values);

/// Adds outcomes up to the figures of the report, always in the same order. Pairs without tokens,
/// and those of the first `warm_up` batches, are left out.
class Summary {
 public:
  Summary(const SimulateOptions& options, const TraceInfo& trace);

  void add(const BlockOutcome& block, const Player& player);
  /// Writes the figures of batches and policies into the report. Call it once, at the end.
  void finish(SimulateReport& report);

 private:
  static constexpr std::size_t kMaxBuckets = 128;
  static constexpr std::size_t kMaxLayerRanks = 2048;  // bounds Sums::layer_heat to 2 MiB

  struct Sums {
    PolicyReport report;
    std::vector<double> imbalance;  // one for each (batch, layer)
    std::vector<double> solve_us;
    std::vector<double> cost;        // one for each (batch, layer); empty without a cost model
    std::vector<double> layer_cost;  // [num_layers]: sums; empty without a cost model
    double gap = 0, cost_gap = 0;
    double copies = 0, busiest = 0, exposed_us = 0;
    double slowest = 0, mean = 0;  // loads of ranks
    double local = 0, total = 0;
    std::vector<double> layer;         // [num_layers]
    std::vector<double> bucket;        // [kMaxBuckets]
    std::vector<double> heat;          // [kMaxBuckets, num_ranks]
    std::vector<double> layer_bucket;  // [kMaxBuckets, num_layers]
    std::vector<double> layer_heat;    // [kMaxBuckets, num_layers, num_ranks], or empty
  };

  std::size_t bucket_of(std::int64_t batch);
  void add_outcome(Sums& sums, std::size_t layer, std::size_t bucket, const PolicyOutcome& outcome,
                   std::span<const double> heat);
  static void add_cost(Sums& sums, std::size_t layer, const PolicyOutcome& outcome);
  static void add_copies(Sums& sums, const CopyOutcome& outcome);
  static void add_solve(Sums& sums, const SolveOutcome& outcome);
  void finish_policy(Sums& sums) const;
  void finish_layers(Sums& sums, std::size_t buckets) const;

  std::size_t num_ranks_, num_layers_;
  std::int64_t warm_up_;
  bool has_cost_;
  double expert_bytes_;
  std::optional<double> round_cost_;
  std::int64_t num_batches_ = 0;
  std::int64_t num_pairs_ = 0, num_empty_pairs_ = 0;
  std::vector<double> layer_pairs_;         // [num_layers]: how many pairs are in the figures
  std::vector<double> bucket_pairs_;        // [kMaxBuckets]
  std::vector<double> layer_bucket_pairs_;  // [kMaxBuckets, num_layers]
  std::int64_t num_solves_ = 0, num_cuda_solves_ = 0;
  std::int64_t bucket_width_ = 1;  // how many batches a bucket holds
  std::vector<Sums> policies_;
};

}  // namespace lplb::replay
