// SPDX-License-Identifier: MIT
#include "lplb/topology.h"

#include "core/check.h"
#include "core/format.h"
#include "lplb/placement.h"
#include "simulate/policy/policy.h"

namespace lplb::replay {
namespace {

class OnTopology : public PlacementPolicy {
 public:
  OnTopology(Topology topology, const PlacementShape& shape)
      : PlacementPolicy(shape), topology_(std::move(topology)) {}

  Placement place(Index, const Past& past) const override {
    const Index redundants = (shape().num_replicas - shape().num_logical) / shape().num_ranks;
    return with_slots(place_on_topology(past.load, 1, shape().num_logical, topology_, redundants,
                                        shape().num_ranks, shape().num_nodes)
                          .physical_to_logical);
  }

 private:
  Topology topology_;
};

Topology parsed(const std::string& name) {
  try {
    return parse_topology(name);
  } catch (const ArgumentError& error) {
    throw ArgumentError("policies", formatted("\"{}\" is no placement: {}", name, error.what()));
  }
}

}  // namespace

std::unique_ptr<PlacementPolicy> make_topology(const std::string& name,
                                               const PlacementShape& shape) {
  Topology topology = parsed(name);
  check_argument(shape.num_logical % shape.num_ranks == 0, "policies",
                 "\"{}\" needs equally many experts on each rank, but the {} experts of the trace "
                 "are no multiple of the {} ranks",
                 name, shape.num_logical, shape.num_ranks);
  check_argument(shape.num_replicas <= 2 * shape.num_logical, "policies",
                 "\"{}\" gives an expert at most two replicas, so {} slots are too many for {} "
                 "experts",
                 name, shape.num_replicas, shape.num_logical);
  return std::make_unique<OnTopology>(std::move(topology), shape);
}

}  // namespace lplb::replay
