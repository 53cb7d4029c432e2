// SPDX-License-Identifier: MIT
#include "lplb/homes.h"
#include "simulate/policy/policy.h"

namespace lplb::replay {
namespace {

/// A controller for each layer. A thread works on one layer at a time, in the order of batches.
class Controlled : public PlacementPolicy {
 public:
  Controlled(const PlacementShape& shape, const ControllerOptions& options)
      : PlacementPolicy(shape), controllers_(shape.layers.size()) {
    const std::vector<double> load = uniform_load();
    const Placement first =
        with_slots(place_homes(load, 1, 1, shape.num_logical, shape.num_replicas, shape.num_ranks)
                       .maps.physical_to_logical);
    for (Controller& controller : controllers_) {
      controller = {std::make_unique<RebalanceController>(first, options), {}};
    }
  }

  Placement first(Index layer) const override { return controllers_[layer].core->placement(); }

  Placement place(Index layer, const Past& past) const override {
    Controller& controller = controllers_[layer];
    controller.last = {};
    controller.core->add(past.batches.back());
    if (controller.core->is_due()) {
      controller.last = controller.core->decide();
      controller.core->adopt();
    }
    return controller.core->placement();
  }

  bool decides() const override { return true; }
  RebalanceDecision decision(Index layer) const override { return controllers_[layer].last; }

 private:
  struct Controller {
    std::unique_ptr<RebalanceController> core;
    RebalanceDecision last;
  };
  mutable std::vector<Controller> controllers_;
};

}  // namespace

std::unique_ptr<PlacementPolicy> make_controlled(const std::string& name,
                                                 const PlacementShape& shape) {
  check_homes(name, shape);
  ControllerOptions options = shape.controller;
  options.even_split = name == "controller+even";
  if (name != "controller+time") options.cost.reset();
  return std::make_unique<Controlled>(shape, options);
}

}  // namespace lplb::replay
