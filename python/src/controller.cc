// SPDX-License-Identifier: MIT
#include "bindings.h"

namespace lplb::python {
namespace {

Facts facts_of(const RebalanceDecision& decision) {
  Facts d;
  d["kind"] = rebalance_name(decision.kind);
  d["reason"] = decision.reason;
  d["load"] = decision.load;
  d["gain"] = decision.gain;
  d["expected"] = decision.expected;
  d["life"] = decision.life;
  d["price"] = decision.price;
  d["moves"] = decision.moves;
  d["rounds"] = decision.rounds;
  return d;
}

Facts facts_of(const ControllerStats& stats) {
  Facts d;
  d["batches"] = stats.batches;
  d["ignored"] = stats.ignored;
  d["decisions"] = stats.decisions;
  d["rebalances"] = stats.rebalances;
  d["moves"] = stats.moves;
  d["rounds"] = stats.rounds;
  d["age"] = stats.age;
  d["life"] = stats.life;
  d["trust"] = stats.trust;
  d["predicted"] = stats.predicted;
  d["measured"] = stats.measured;
  return d;
}

}  // namespace

void bind_controller(nb::module_& m) {
  nb::class_<ControllerOptions>(m, "ControllerOptions")
      .def(
          "__init__",
          [](ControllerOptions* self, Index window, Index interval, double round_cost, double life,
             double min_gain, bool even_split, const CostModel* cost, Index num_phases,
             Load min_tokens, bool may_move_homes, std::int64_t max_trials,
             std::int64_t max_moves) {
            new (self)
                ControllerOptions{.window = window,
                                  .interval = interval,
                                  .round_cost = round_cost,
                                  .life = life,
                                  .min_gain = min_gain,
                                  .even_split = even_split,
                                  .cost = cost == nullptr ? std::nullopt : std::optional(*cost),
                                  .num_phases = num_phases,
                                  .min_tokens = min_tokens,
                                  .may_move_homes = may_move_homes,
                                  .max_trials = max_trials,
                                  .max_moves = max_moves};
          },
          "window"_a, "interval"_a, "round_cost"_a, "life"_a, "min_gain"_a, "even_split"_a,
          "cost"_a.none(), "num_phases"_a, "min_tokens"_a, "may_move_homes"_a, "max_trials"_a,
          "max_moves"_a);
  nb::class_<RebalanceController>(m, "RebalanceController")
      .def(nb::init<const Placement&, const ControllerOptions&>(), "placement"_a, "options"_a)
      .def(
          "add",
          [](RebalanceController& self, const ArrayIn<Load>& load, Index phase) {
            without_gil([&] { self.add(span_of(load), phase); });
          },
          "load"_a, "phase"_a)
      .def_prop_ro("is_due", &RebalanceController::is_due)
      .def("decide",
           [](RebalanceController& self) {
             return facts_of(without_gil([&] { return self.decide(); }));
           })
      .def_prop_ro("proposal", [](const RebalanceController& self) { return self.proposal(); })
      .def_prop_ro("placement", [](const RebalanceController& self) { return self.placement(); })
      .def("adopt", [](RebalanceController& self) { without_gil([&] { self.adopt(); }); })
      .def("stats", [](const RebalanceController& self) { return facts_of(self.stats()); });
}

}  // namespace lplb::python
