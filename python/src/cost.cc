// SPDX-License-Identifier: MIT
#include <nanobind/stl/vector.h>

#include "bindings.h"

namespace lplb::python {
namespace {

double in_units(Cost cost) { return static_cast<double>(cost) / kCostsPerUnit; }

}  // namespace

void bind_cost(nb::module_& m) {
  nb::class_<CostModel>(m, "CostModel")
      .def(
          "__init__",
          [](CostModel* self, const std::string& unit, double rank, std::vector<Load> tokens,
             std::vector<double> cost, Load then_every, double then_cost) {
            new (self) CostModel(
                unit, CostTable{rank, std::move(tokens), std::move(cost), then_every, then_cost});
          },
          "unit"_a, "rank"_a, "tokens"_a, "cost"_a, "then_every"_a, "then_cost"_a)
      .def_prop_ro("unit", [](const CostModel& model) { return model.unit(); })
      .def_prop_ro("fingerprint", &CostModel::fingerprint)
      .def_prop_ro("num_tables", [](const CostModel& model) { return model.tables().size(); })
      .def(
          "expert_cost",
          [](const CostModel& model, Index rank, Load tokens, double speed) {
            return in_units(model.expert_cost(rank, tokens, speed));
          },
          "rank"_a, "tokens"_a, "speed"_a)
      .def(
          "rank_cost",
          [](const CostModel& model, Index rank, double speed) {
            return in_units(model.rank_cost(rank, speed));
          },
          "rank"_a, "speed"_a)
      .def(
          "equals", [](const CostModel& model, const CostModel& other) { return model == other; },
          "other"_a);
  m.def(
      "cost_by_rank",
      [](const std::vector<CostModel>& models) {
        std::vector<CostTable> tables;
        for (const CostModel& model : models) tables.push_back(model.tables().at(0));
        return CostModel(models.at(0).unit(), std::move(tables));
      },
      "models"_a);
  m.def("weights_only_model", &weights_only_model);
  m.def("load_cost_model", &load_cost_model, "path"_a);
  m.def(
      "save_cost_model",
      [](const CostModel& model, const std::string& path) { save_cost_model(model, path); },
      "model"_a, "path"_a);
}

}  // namespace lplb::python
