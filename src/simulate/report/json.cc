// SPDX-License-Identifier: MIT
#include <nlohmann/json.hpp>

#include "io/files.h"
#include "lplb/simulate.h"
#include "simulate/report/answer.h"

namespace lplb {
namespace {

using Json = nlohmann::ordered_json;

Json distribution_json(const Distribution& d) {
  return {{"mean", d.mean}, {"p50", d.p50}, {"p95", d.p95}, {"p99", d.p99}, {"max", d.max}};
}

Json repeats_json(const SimulateReport& report) {
  if (!report.repeats) return {};
  return {{"num_choices", report.repeats->num_choices},
          {"num_tokens", report.repeats->num_tokens},
          {"share", report.repeats->share}};
}

/// A row for each of `rows`.
Json matrix_json(const std::vector<double>& values, std::size_t rows) {
  Json out = Json::array();
  const auto width = static_cast<std::ptrdiff_t>(rows == 0 ? 0 : values.size() / rows);
  for (auto row = values.begin(); row != values.end(); row += width) {
    out.push_back(std::vector<double>(row, row + width));
  }
  return out;
}

Json domains_json(const SimulateReport& report) {
  Json out = Json::array();
  for (const DomainStart& domain : report.domains) {
    out.push_back({{"first_batch", domain.first_batch}, {"name", domain.name}});
  }
  return out;
}

Json trace_json(const SimulateReport& report) {
  const TraceInfo& trace = report.trace;
  return {
      {"name", trace.name},
      {"format", trace.format},
      {"synthetic", trace.synthetic},
      {"num_layers", trace.num_layers},
      {"first_layer", trace.first_layer},
      {"layer_stride", trace.layer_stride},
      {"num_logical_experts", trace.num_logical_experts},
      {"num_topk", trace.num_topk},
      {"num_batches", report.num_batches},
      {"num_tokens", report.num_tokens},
      {"num_pairs", report.num_pairs},
      {"num_empty_pairs", report.num_empty_pairs},
      {"repeats", repeats_json(report)},
      {"bucket_start", report.bucket_start},
      {"domains", domains_json(report)},
      {"expert_load", matrix_json(report.expert_load, static_cast<std::size_t>(trace.num_layers))}};
}

Json controller_json(const SimulateOptions& o) {
  if (!o.controller) return {};
  return {
      {"round_cost", o.controller->round_cost}, {"life", o.controller->life},
      {"min_gain", o.controller->min_gain},     {"interval", o.controller->interval},
      {"min_tokens", o.controller->min_tokens}, {"max_moves", o.controller->max_moves},
      {"max_trials", o.controller->max_trials}, {"may_move_homes", o.controller->may_move_homes}};
}

Json settings_json(const SimulateReport& report) {
  const SimulateOptions& o = report.settings;
  const Index redundants = report::redundants_of(report);
  Json json = {
      {"trace", o.trace},
      {"num_ranks", o.num_ranks},
      {"num_nodes", o.num_nodes},
      {"num_groups", o.num_groups},
      {"redundants", redundants >= 0 ? Json(redundants) : Json()},
      {"num_replicas", o.num_replicas > 0 ? Json(o.num_replicas) : Json()},
      {"policies", o.policies},
      {"left_out", report.left_out},
      {"batch_tokens", o.batch_tokens},
      {"skip_steps", o.skip_steps},
      {"drop_repeats", o.drop_repeats},
      {"warm_up", o.warm_up},
      {"window", o.window},
      {"rebalance_every", o.rebalance_every},
      {"controller", controller_json(o)},
      {"cost_file", o.cost ? Json(o.cost_file) : Json()},
      {"cost", o.cost ? Json::parse(io::cost_json(*o.cost)) : Json()},
      {"solver", solver_name(o.solver)},
      {"num_threads", o.num_threads},
      {"expert_bytes", o.expert_bytes > 0 ? Json(o.expert_bytes) : Json()},
      {"copy_target", o.copy_target},
      {"copy_min_tokens", o.copy_min_tokens},
      {"copy_domains", o.copy_domains},
      {"copy_gigabytes_per_s", o.copy_gigabytes_per_s > 0 ? Json(o.copy_gigabytes_per_s) : Json()},
      {"copy_hidden_us", o.copy_hidden_us}};
  if (report.trace.format == "synthetic") {
    json["synthetic"] = {{"num_logical_experts", o.synthetic.num_logical_experts},
                         {"num_topk", o.synthetic.num_topk},
                         {"num_layers", o.synthetic.num_layers},
                         {"num_steps", o.synthetic.num_steps},
                         {"num_tokens", o.synthetic.num_tokens},
                         {"seed", o.synthetic.seed}};
  }
  return json;
}

Json cost_json(const PolicyReport& policy) {
  if (!policy.cost) return {};
  Json json = distribution_json(policy.cost->max);
  json["gap"] = {{"mean", policy.cost->gap_mean}, {"max", policy.cost->gap_max}};
  return json;
}

Json copies_json(const PolicyReport& policy, const SimulateOptions& o) {
  if (!policy.copies) return {};
  const CopyReport& copies = *policy.copies;
  return {{"mean", copies.mean},
          {"max", copies.max},
          {"busiest", copies.busiest_mean},
          {"mean_bytes", o.expert_bytes > 0 ? Json(copies.mean_bytes) : Json()},
          {"exposed_us", o.copy_gigabytes_per_s > 0 ? Json(copies.exposed_us_mean) : Json()}};
}

Json decisions_json(const PolicyReport& policy, const SimulateReport& report) {
  Json out = Json::array();
  for (const ReplayedDecision& made : policy.decisions) {
    out.push_back({{"batch", made.batch},
                   {"layer", report.trace.layer_number(static_cast<std::size_t>(made.layer))},
                   {"kind", rebalance_name(made.decision.kind)},
                   {"load", made.decision.load},
                   {"gain", made.decision.gain},
                   {"expected", made.decision.expected},
                   {"life", made.decision.life},
                   {"price", made.decision.price},
                   {"moves", made.decision.moves},
                   {"rounds", made.decision.rounds}});
  }
  return out;
}

Json policy_json(const PolicyReport& policy, const SimulateReport& report) {
  Json layers = Json::array();
  const Json over_time = matrix_json(policy.layer_over_time, policy.layer_mean.size());
  for (std::size_t i = 0; i < policy.layer_mean.size(); ++i) {
    layers.push_back({{"layer", report.trace.layer_number(i)},
                      {"mean", policy.layer_mean[i]},
                      {"max", policy.layer_max[i]}});
    if (policy.cost) layers.back()["cost"] = policy.cost->layer_mean[i];
    if (!over_time.empty()) layers.back()["over_time"] = over_time[i];
  }
  return {
      {"name", policy.name},
      {"imbalance", distribution_json(policy.imbalance)},
      {"gap", {{"mean", policy.gap_mean}, {"max", policy.gap_max}}},
      {"cost", cost_json(policy)},
      {"solves", policy.solves},
      {"optimal", policy.optimal},
      {"solve_us", policy.solves > 0 ? distribution_json(policy.solve_us) : Json()},
      {"rebalances", policy.rebalances},
      {"moved_experts",
       {{"total", policy.moved_experts},
        {"rounds", policy.charged ? Json(policy.rounds) : Json()},
        {"mean", policy.moved_experts_mean},
        {"mean_bytes",
         report.settings.expert_bytes > 0 ? Json(report::moved_bytes(report, policy)) : Json()}}},
      {"copies", copies_json(policy, report.settings)},
      {"charged", policy.charged ? Json(*policy.charged) : Json()},
      {"decisions", decisions_json(policy, report)},
      {"local_share", policy.local_share ? Json(*policy.local_share) : Json()},
      {"layers", std::move(layers)},
      {"over_time", policy.over_time},
      {"rank_heat",
       matrix_json(policy.rank_heat, static_cast<std::size_t>(report.settings.num_ranks))}};
}

}  // namespace

std::string report_json(const SimulateReport& report) {
  Json policies = Json::array();
  for (const PolicyReport& policy : report.policies) {
    policies.push_back(policy_json(policy, report));
  }
  const Json json = {{"trace", trace_json(report)},
                     {"settings", settings_json(report)},
                     {"policies", std::move(policies)}};
  // A path may hold any bytes, but JSON may not.
  return json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace lplb
