// SPDX-License-Identifier: MIT
#include "lplb/placement.h"
#include "simulate/policy/policy.h"

namespace lplb::replay {
namespace {

class Eplb : public PlacementPolicy {
 public:
  explicit Eplb(const PlacementShape& shape) : shape_(shape) {}

  std::vector<Index> place(std::span<const double> load) const override {
    const Index slots = shape_.num_logical + shape_.redundants * shape_.num_ranks;
    return rebalance_experts(load, 1, shape_.num_logical, slots, shape_.num_groups,
                             shape_.num_nodes, shape_.num_ranks)
        .physical_to_logical;
  }

 private:
  PlacementShape shape_;
};

}  // namespace

std::unique_ptr<PlacementPolicy> make_eplb(const std::string&, const PlacementShape& shape) {
  return std::make_unique<Eplb>(shape);
}

}  // namespace lplb::replay
