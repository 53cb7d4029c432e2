// SPDX-License-Identifier: MIT
#pragma once

#include "lplb/simulate.h"

// Reports with given figures.
namespace lplb::testing {

/// A command that a page shows.
inline constexpr const char* kCommand = "lplb simulate --trace x";

/// A policy with given figures: its mean imbalance is `mean`, and the worst is twice that, in one
/// of two layers.
inline PolicyReport policy(const std::string& name, double mean) {
  PolicyReport p;
  p.name = name;
  p.imbalance = {mean, mean, 1.5 * mean, 1.8 * mean, 2 * mean};
  if (name.ends_with("+lplb") || name.ends_with("+time")) {
    p.solves = p.optimal = 8;
    p.solve_us = {5, 5, 6, 7, 8};
  }
  p.layer_mean = {mean, mean};
  p.layer_max = {2 * mean, mean};
  p.over_time = {mean, mean, mean, mean};
  p.rank_heat = {mean, 1, 1, 1, 2 - mean, 1, 1, 1};
  p.layer_over_time = {mean, mean, mean, mean, mean, mean, mean, mean};
  return p;
}

/// The same with a mean cost of its slowest rank, in microseconds.
inline PolicyReport costing(const std::string& name, double mean, double cost) {
  PolicyReport p = policy(name, mean);
  p.cost.emplace();
  p.cost->max = {cost, cost, cost, 1.5 * cost, 2 * cost};
  p.cost->gap_mean = 0.25;
  p.cost->gap_max = 0.5;
  p.cost->layer_mean = {cost, cost};
  return p;
}

inline SimulateReport report_of(const std::vector<PolicyReport>& policies) {
  SimulateReport report;
  report.trace.name = "steps.jsonl";
  report.trace.format = "load.jsonl";
  report.trace.num_layers = 2;
  report.trace.num_logical_experts = 8;
  report.trace.num_topk = 2;
  report.settings.trace = "data/steps.jsonl";
  report.settings.num_ranks = 2;
  report.settings.num_replicas = 12;
  report.num_batches = 8;
  report.num_tokens = 12345;
  report.bucket_start = {0, 2, 4, 6};
  report.policies = policies;
  if (!policies.empty() && policies[0].cost) {
    report.settings.cost = CostModel("us", CostTable{30, {128}, {7}, 128, 7});
    report.settings.cost_file = "us.json";
  }
  return report;
}

}  // namespace lplb::testing
