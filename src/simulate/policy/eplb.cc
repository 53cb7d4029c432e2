// SPDX-License-Identifier: MIT
#include "core/check.h"
#include "lplb/placement.h"
#include "simulate/policy/policy.h"

namespace lplb::replay {
namespace {

class Eplb : public PlacementPolicy {
 public:
  Eplb(const PlacementShape& shape, bool spread, bool keep)
      : PlacementPolicy(shape), spread_(spread), keep_(keep) {}

  Placement place(Index, const Past& past) const override {
    const Placement next = placed(past.load, spread_);
    return keep_ && past.in_use != nullptr ? keep_ranks(*past.in_use, next, by_node()) : next;
  }

  /// Without a past all experts have the same load. EPLB then puts both replicas of an expert onto
  /// the same rank, where they are of no use.
  Placement first(Index) const override { return placed(uniform_load(), spread_ || can_spread()); }

 private:
  /// Whether the replicas of a group stay on a node.
  bool by_node() const { return shape().num_groups % shape().num_nodes == 0; }

  /// Whether a rank has at most as many slots as there are experts that it can hold. If not, some
  /// expert must be on it twice.
  bool can_spread() const {
    const Index experts = by_node() ? shape().num_logical / shape().num_nodes : shape().num_logical;
    return shape().num_replicas / shape().num_ranks <= experts;
  }

  Placement placed(std::span<const double> load, bool spread) const {
    return with_slots(rebalance_experts(load, 1, shape().num_logical, shape().num_replicas,
                                        shape().num_groups, shape().num_nodes, shape().num_ranks,
                                        {.spread = spread})
                          .physical_to_logical);
  }

  bool spread_;
  bool keep_;
};

std::unique_ptr<PlacementPolicy> make(const PlacementShape& shape, bool spread, bool keep) {
  check_argument(
      shape.num_replicas > 0, "num_ranks",
      "{} does not divide the {} experts of the trace, so ranks cannot have equally many "
      "redundants; expected num_replicas, the slots of all ranks: {}",
      shape.num_ranks, shape.num_logical, fitting_slots(shape.num_logical, shape.num_ranks));
  return std::make_unique<Eplb>(shape, spread, keep);
}

}  // namespace

std::unique_ptr<PlacementPolicy> make_eplb(const std::string&, const PlacementShape& shape) {
  return make(shape, false, false);
}

std::unique_ptr<PlacementPolicy> make_eplb_spread(const std::string&, const PlacementShape& shape) {
  return make(shape, true, false);
}

std::unique_ptr<PlacementPolicy> make_eplb_keep(const std::string&, const PlacementShape& shape) {
  return make(shape, false, true);
}

}  // namespace lplb::replay
