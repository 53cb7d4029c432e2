// SPDX-License-Identifier: MIT
#include "lplb/topology.h"

#include "core/format.h"
#include "lplb/placement.h"
#include "simulate/policy/policy.h"

namespace lplb::replay {
namespace {

class OnTopology : public PlacementPolicy {
 public:
  OnTopology(const std::string& name, const PlacementShape& shape)
      : topology_(parse_topology(name)), shape_(shape) {}

  std::vector<Index> place(std::span<const double> load) const override {
    return place_on_topology(load, 1, shape_.num_logical, topology_, shape_.redundants,
                             shape_.num_ranks, shape_.num_nodes)
        .physical_to_logical;
  }

 private:
  Topology topology_;
  PlacementShape shape_;
};

}  // namespace

std::unique_ptr<PlacementPolicy> make_topology(const std::string& name,
                                               const PlacementShape& shape) {
  try {
    return std::make_unique<OnTopology>(name, shape);
  } catch (const ArgumentError& error) {
    throw ArgumentError("policies", formatted("\"{}\" is no placement: {}", name, error.what()));
  }
}

}  // namespace lplb::replay
