// SPDX-License-Identifier: MIT
#include "lplb/homes.h"

#include "core/check.h"
#include "simulate/policy/policy.h"

namespace lplb::replay {
namespace {

class OnHomes : public PlacementPolicy {
 public:
  OnHomes(const PlacementShape& shape, bool move_homes) : PlacementPolicy(shape) {
    options_.move_homes = move_homes;
    options_.dynamic_slots = shape.dynamic_slots;
    options_.num_domains = shape.num_domains;
  }

  Placement place(Index, const Past& past) const override {
    std::vector<double> loads;
    for (const std::span<const Load> batch : past.batches) {
      for (const Load w : batch) loads.push_back(static_cast<double>(w));
    }
    if (past.batches.empty()) loads.assign(past.load.begin(), past.load.end());
    const auto batches = static_cast<Index>(loads.size()) / shape().num_logical;
    const std::span<const Placement> in_use(past.in_use, past.in_use == nullptr ? 0 : 1);
    return with_slots(place_homes(loads, batches, 1, shape().num_logical, shape().num_replicas,
                                  shape().num_ranks, in_use, options_)
                          .maps.physical_to_logical);
  }

 private:
  HomesOptions options_;
};

}  // namespace

void check_homes(const std::string& name, const PlacementShape& shape) {
  check_argument(shape.num_replicas > 0 && shape.num_logical % shape.num_ranks == 0, "policies",
                 "\"{}\" needs equally many experts on each rank, but the {} experts of the trace "
                 "are no multiple of the {} ranks",
                 name, shape.num_logical, shape.num_ranks);
  const Index slots = shape.num_replicas / shape.num_ranks;
  check_argument(slots <= shape.num_logical, "policies",
                 "\"{}\" puts no expert on a rank twice, so {} slots on each of {} ranks are too "
                 "many for {} experts",
                 name, slots, shape.num_ranks, shape.num_logical);
  check_argument(
      (slots + shape.dynamic_slots) * shape.num_ranks <= kMaxPhysical, "policies",
      "\"{}\" and {} dynamic slots on each of {} ranks make {} slots, expected at most {}", name,
      shape.dynamic_slots, shape.num_ranks, (slots + shape.dynamic_slots) * shape.num_ranks,
      kMaxPhysical);
}

std::unique_ptr<PlacementPolicy> make_homes(const std::string& name, const PlacementShape& shape) {
  check_homes(name, shape);
  return std::make_unique<OnHomes>(shape, name == "moving-homes");
}

}  // namespace lplb::replay
