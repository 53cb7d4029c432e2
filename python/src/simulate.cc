// SPDX-License-Identifier: MIT
#include <nanobind/stl/map.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/vector.h>

#include <map>
#include <type_traits>
#include <utility>

#include "bindings.h"

namespace lplb::python {
namespace {

using NamedText = std::pair<std::string, std::string>;
using Integers = std::map<std::string, std::int64_t>;

/// The defaults, with what `given` has: a field's name and its value.
SyntheticOptions synthetic_options(const Integers& given) {
  SyntheticOptions options;
  for (const auto& [name, value] : given) {
    const auto take = [&name = name, value = value](auto& field) {
      using Field = std::remove_reference_t<decltype(field)>;
      if (value < 0 || !std::in_range<Field>(value)) {
        throw ArgumentError("synthetic_" + name,
                            std::to_string(value) + " is out of range, expected an integer >= 0");
      }
      field = static_cast<Field>(value);
    };
    if (name == "num_logical_experts") take(options.num_logical_experts);
    if (name == "num_topk") take(options.num_topk);
    if (name == "num_layers") take(options.num_layers);
    if (name == "num_steps") take(options.num_steps);
    if (name == "num_tokens") take(options.num_tokens);
    if (name == "seed") take(options.seed);
  }
  return options;
}

/// The report as JSON and as an HTML page, and each policy's next placement as a placement file.
nb::typed<nb::tuple, std::string, std::string, std::vector<NamedText>> run_simulation(
    const std::string& trace, Index num_ranks, Index num_nodes, Index num_groups, Index redundants,
    Index num_replicas, const std::vector<std::string>& policies, std::int64_t batch_tokens,
    std::int64_t skip_steps, bool drop_repeats, std::int64_t warm_up, Index window,
    Index rebalance_every, const ControllerOptions* controller, const CostModel* cost,
    const std::string& cost_file, const std::string& solver, int num_threads,
    std::int64_t expert_bytes, double copy_target, Load copy_min_tokens, Index copy_domains,
    double copy_gigabytes_per_s, double copy_hidden_us, const std::string& backend,
    const Integers& synthetic, const std::string& command, const nb::object& progress) {
  SimulateOptions options;
  options.trace = trace;
  options.synthetic = synthetic_options(synthetic);
  options.backend = parse_backend(backend);
  options.num_ranks = num_ranks;
  options.num_nodes = num_nodes;
  options.num_groups = num_groups;
  options.redundants = redundants;
  options.num_replicas = num_replicas;
  options.policies = policies;
  options.batch_tokens = batch_tokens;
  options.skip_steps = skip_steps;
  options.drop_repeats = drop_repeats;
  options.warm_up = warm_up;
  options.window = window;
  options.rebalance_every = rebalance_every;
  if (controller != nullptr) options.controller = *controller;
  if (cost != nullptr) options.cost = *cost;
  options.cost_file = cost_file;
  options.solver = parse_solver(solver);
  options.num_threads = num_threads;
  options.expert_bytes = expert_bytes;
  options.copy_target = copy_target;
  options.copy_min_tokens = copy_min_tokens;
  options.copy_domains = copy_domains;
  options.copy_gigabytes_per_s = copy_gigabytes_per_s;
  options.copy_hidden_us = copy_hidden_us;
  // Called between blocks of batches, in this thread: an exception ends the replay.
  options.progress = [&progress](std::int64_t done, std::int64_t all) {
    const nb::gil_scoped_acquire gil;
    if (PyErr_CheckSignals() != 0) throw nb::python_error();
    if (!progress.is_none()) progress(done, all);
  };
  std::string json, html;
  std::vector<NamedText> placements;
  without_gil([&] {
    const SimulateReport report = simulate(options);
    json = report_json(report);
    html = report_html(report, command);
    for (const PolicyReport& policy : report.policies) {
      placements.emplace_back(policy.name, placement_json(report, policy.name));
    }
  });
  return nb::make_tuple(json, html, placements);
}

}  // namespace

void bind_simulate(nb::module_& m) {
  m.def("simulate", &run_simulation, "trace"_a, "num_ranks"_a, "num_nodes"_a, "num_groups"_a,
        "redundants"_a, "num_replicas"_a, "policies"_a, "batch_tokens"_a, "skip_steps"_a,
        "drop_repeats"_a, "warm_up"_a, "window"_a, "rebalance_every"_a, "controller"_a.none(),
        "cost"_a.none(), "cost_file"_a, "solver"_a, "num_threads"_a, "expert_bytes"_a,
        "copy_target"_a, "copy_min_tokens"_a, "copy_domains"_a, "copy_gigabytes_per_s"_a,
        "copy_hidden_us"_a, "backend"_a, "synthetic"_a, "command"_a, "progress"_a.none());
  m.def("synthetic_names", &synthetic_names);
}

}  // namespace lplb::python
