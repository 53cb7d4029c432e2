// SPDX-License-Identifier: MIT
#include "replicate/options.h"

#include <algorithm>
#include <cmath>

#include "core/check.h"
#include "replicate/device/layout.h"

namespace lplb::replicas {
namespace {

void check_cost(const CopyCost& cost) {
  const auto check = [](double value, bool zero, const char* argument) {
    check_argument(std::isfinite(value) && (value > 0 || (zero && value == 0)), argument,
                   "{} is not a finite number {} 0", value, zero ? ">=" : ">");
  };
  check(cost.us_per_token, true, "cost.us_per_token");
  if (cost.us_per_token == 0) return;
  check(cost.expert_bytes, false, "cost.expert_bytes");
  check(cost.gigabytes_per_s, false, "cost.gigabytes_per_s");
  check(cost.hidden_us, true, "cost.hidden_us");
}

}  // namespace

void check_options(const Placement& placement, const ReplicateOptions& options) {
  const Index dynamic = options.dynamic_slots;
  check_argument(dynamic >= 1 && dynamic <= kMaxDynamicSlots, "dynamic_slots",
                 "{} is not between 1 and {}", dynamic, kMaxDynamicSlots);
  const Index slots = (placement.slots_per_rank() + dynamic) * placement.num_ranks;
  check_argument(slots <= kMaxPhysical, "dynamic_slots",
                 "{} on each of {} ranks make {} slots with the placement's {}, expected at most "
                 "{}",
                 dynamic, placement.num_ranks, slots, placement.num_physical(), kMaxPhysical);
  check_argument(options.target >= 1 && options.target <= kMaxCopyTarget, "target",
                 "{} is not between 1 and {}", options.target, kMaxCopyTarget);
  check_argument(options.min_tokens >= 1, "min_tokens", "{} is not >= 1", options.min_tokens);
  check_argument(options.num_domains >= 1 && placement.num_ranks % options.num_domains == 0,
                 "num_domains", "{} does not divide num_ranks ({})", options.num_domains,
                 placement.num_ranks);
  check_cost(options.cost);
}

void check_for_device(const Placement& placement) {
  check_argument(placement.num_ranks <= kMaxCopyRanks, "placement",
                 "has {} ranks, expected at most {} for copies on the device", placement.num_ranks,
                 kMaxCopyRanks);
}

void check_speeds(const Placement& placement) {
  for (Index g = 1; g < placement.num_ranks; ++g) {
    check_argument(placement.speed(g) == placement.speed(0), "rank_speed",
                   "rank {} has speed {}, expected that of rank 0 ({}): the first placement had "
                   "equal speeds",
                   g, placement.speed(g), placement.speed(0));
  }
}

}  // namespace lplb::replicas
