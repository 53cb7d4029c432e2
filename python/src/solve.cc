// SPDX-License-Identifier: MIT
#include <thread>

#include "bindings.h"

namespace lplb::python {
namespace {

SolveOptions solve_options(const std::string& solver, std::int64_t max_steps, double tolerance,
                           int max_iterations, const std::string& backend) {
  SolveOptions options;
  options.solver = parse_solver(solver);
  options.max_steps = max_steps;
  options.tolerance = tolerance;
  options.max_iterations = max_iterations;
  options.backend = parse_backend(backend);
  return options;
}

nb::tuple solve_many(const Placement& placement, const ArrayIn<Load>& loads, int num_threads,
                     const SolveOptions& options) {
  const std::size_t num_batches = loads.size() / placement.replica_count.size();
  const std::size_t physical = placement.physical_to_logical.size();
  std::vector<Load> split(num_batches * physical);
  std::vector<SplitSummary> summary(num_batches);
  without_gil([&] {
    solve_batch(SplitProblem(placement), span_of(loads), split, summary, num_threads, options);
  });
  std::vector<double> max_load, bound;
  std::vector<std::uint8_t> optimal;
  for (const SplitSummary& batch : summary) {
    max_load.push_back(batch.max_load);
    bound.push_back(batch.lower_bound);
    optimal.push_back(batch.status == SolveStatus::kOptimal ? 1 : 0);
  }
  return nb::make_tuple(to_array(std::move(split), {num_batches, physical}),
                        to_array(std::move(max_load)), to_array(std::move(bound)),
                        to_array(std::move(optimal)));
}

}  // namespace

void bind_solve(nb::module_& m) {
  nb::class_<Split>(m, "Split")
      .def_prop_ro("status", [](const Split& s) { return status_name(s.status); })
      .def_prop_ro("solver", [](const Split& s) { return solver_name(s.solver); })
      .def_prop_ro("backend", [](const Split& s) { return backend_name(s.backend); })
      .def_ro("max_load", &Split::max_load)
      .def_ro("lower_bound", &Split::lower_bound)
      .def_prop_ro("max_tokens", [](const Split& s) { return s.max_level.tokens; })
      .def_prop_ro("bound_tokens", [](const Split& s) { return s.bound_level.tokens; })
      .def_ro("steps", &Split::steps)
      .def_prop_ro("max_cost", [](const Split& s) { return s.cost.max_cost; })
      .def_prop_ro("cost_lower_bound", [](const Split& s) { return s.cost.lower_bound; })
      .def_prop_ro(
          "cost_bottleneck_ranks", [](const Split& s) { return to_array(s.cost.bottleneck_ranks); },
          nb::rv_policy::automatic)
      .def_prop_ro(
          "rank_cost",
          [](const Split& s) {
            std::vector<double> cost;
            for (const Cost c : s.cost.rank_cost) {
              cost.push_back(static_cast<double>(c) / kCostsPerUnit);
            }
            return to_array(std::move(cost));
          },
          nb::rv_policy::automatic)
      .def_prop_ro(
          "active_experts", [](const Split& s) { return to_array(s.cost.active_experts); },
          nb::rv_policy::automatic)
      .def_prop_ro(
          "bottleneck_ranks", [](const Split& s) { return to_array(s.bottleneck_ranks); },
          nb::rv_policy::automatic)
      .def_prop_ro(
          "rank_load", [](const Split& s) { return to_array(s.rank_load); },
          nb::rv_policy::automatic)
      .def_prop_ro(
          "physical_load", [](const Split& s) { return to_array(s.physical_load); },
          nb::rv_policy::automatic);

  m.def(
      "solve",
      [](const Placement& placement, const ArrayIn<Load>& load, const std::string& solver,
         std::int64_t max_steps, double tolerance, int max_iterations, const std::string& backend,
         const CostModel* cost) {
        SolveOptions options = solve_options(solver, max_steps, tolerance, max_iterations, backend);
        options.cost = cost;
        return without_gil([&] { return solve(placement, span_of(load), options); });
      },
      "placement"_a, "load"_a, "solver"_a, "max_steps"_a, "tolerance"_a, "max_iterations"_a,
      "backend"_a, "cost"_a.none());
  m.def(
      "solve_batch",
      [](const Placement& placement, const ArrayIn<Load>& loads, int num_threads,
         const std::string& solver, std::int64_t max_steps, double tolerance, int max_iterations,
         const std::string& backend) -> nb::typed<nb::tuple, ArrayOut<Load>, ArrayOut<double>,
                                                  ArrayOut<double>, ArrayOut<std::uint8_t>> {
        return solve_many(placement, loads, num_threads,
                          solve_options(solver, max_steps, tolerance, max_iterations, backend));
      },
      "placement"_a, "loads"_a, "num_threads"_a, "solver"_a, "max_steps"_a, "tolerance"_a,
      "max_iterations"_a, "backend"_a);
  m.def(
      "split_evenly",
      [](const Placement& placement, const ArrayIn<Load>& load) {
        std::vector<Load> split(placement.physical_to_logical.size());
        split_evenly(placement, span_of(load), split);
        return to_array(std::move(split));
      },
      "placement"_a, "load"_a);
  m.def(
      "verify_split",
      [](const Placement& placement, const ArrayIn<Load>& load, const Split& split,
         const CostModel* cost) { return verify_split(placement, span_of(load), split, cost); },
      "placement"_a, "load"_a, "split"_a, "cost"_a.none());
  m.def(
      "imbalance",
      [](const ArrayIn<Load>& rank_load, const Placement* placement) {
        return placement == nullptr ? imbalance(span_of(rank_load))
                                    : imbalance(*placement, span_of(rank_load));
      },
      "rank_load"_a, "placement"_a.none());
}

}  // namespace lplb::python
