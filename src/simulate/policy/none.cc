// SPDX-License-Identifier: MIT
#include <numeric>

#include "core/check.h"
#include "simulate/policy/policy.h"

namespace lplb::replay {
namespace {

/// Puts expert e into slot e, without replicas: the placement of a system that does not balance.
class Contiguous : public PlacementPolicy {
 public:
  using PlacementPolicy::PlacementPolicy;

  Placement place(Index, const Past&) const override {
    std::vector<Index> map(static_cast<std::size_t>(shape().num_logical));
    std::iota(map.begin(), map.end(), 0);
    return with_slots(map);
  }

  bool adapts() const override { return false; }
};

}  // namespace

std::unique_ptr<PlacementPolicy> make_contiguous(const std::string& name,
                                                 const PlacementShape& shape) {
  check_argument(shape.num_logical % shape.num_ranks == 0, "policies",
                 "\"{}\" needs equally many experts on each rank, but the {} experts of the trace "
                 "are no multiple of the {} ranks",
                 name, shape.num_logical, shape.num_ranks);
  return std::make_unique<Contiguous>(shape);
}

}  // namespace lplb::replay
