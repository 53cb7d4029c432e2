// SPDX-License-Identifier: MIT
#include <nanobind/stl/vector.h>

#include "bindings.h"

namespace lplb::python {
namespace {

/// The report as JSON and as an HTML page.
nb::typed<nb::tuple, std::string, std::string> run_simulation(
    const std::string& trace, Index num_ranks, Index num_nodes, Index num_groups, Index redundants,
    const std::vector<std::string>& policies, std::int64_t batch_tokens, Index window,
    Index rebalance_every, const std::string& solver, int jobs, std::uint64_t seed,
    const std::string& command) {
  SimulateOptions options;
  options.trace = trace;
  options.synthetic.seed = seed;
  options.num_ranks = num_ranks;
  options.num_nodes = num_nodes;
  options.num_groups = num_groups;
  options.redundants = redundants;
  options.policies = policies;
  options.batch_tokens = batch_tokens;
  options.window = window;
  options.rebalance_every = rebalance_every;
  options.solver = parse_solver(solver);
  options.jobs = jobs;
  std::string json, html;
  without_gil([&] {
    const SimulateReport report = simulate(options);
    json = report_json(report);
    html = report_html(report, command);
  });
  return nb::make_tuple(json, html);
}

}  // namespace

void bind_simulate(nb::module_& m) {
  m.def("simulate", &run_simulation, "trace"_a, "num_ranks"_a, "num_nodes"_a, "num_groups"_a,
        "redundants"_a, "policies"_a, "batch_tokens"_a, "window"_a, "rebalance_every"_a, "solver"_a,
        "jobs"_a, "seed"_a, "command"_a);
  m.def("synthetic_names", &synthetic_names);
}

}  // namespace lplb::python
