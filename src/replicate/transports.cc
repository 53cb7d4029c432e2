// SPDX-License-Identifier: MIT
#include <algorithm>

#include "core/check.h"
#include "core/made.h"
#include "lplb/replicate.h"

// Copies in the forms that others' transports take.
namespace lplb {

std::vector<std::int32_t> redundancy_mapping(const Placement& placement,
                                             const Replication& replication, Index num_domains) {
  check_made(placement, "placement");
  check_argument(num_domains >= 1 && placement.num_ranks % num_domains == 0, "num_domains",
                 "{} does not divide num_ranks ({})", num_domains, placement.num_ranks);
  const std::vector<Index>& experts = replication.slot_expert;
  const auto ranks = static_cast<std::size_t>(placement.num_ranks);
  check_argument(!experts.empty() && experts.size() % ranks == 0 &&
                     replication.slot_source.size() == experts.size(),
                 "replication", "has {} dynamic slots and {} sources, expected a multiple of {}",
                 experts.size(), replication.slot_source.size(), ranks);
  const auto slots = static_cast<Index>(experts.size() / ranks);
  const Index main = placement.slots_per_rank();
  const Index domain_ranks = placement.num_ranks / num_domains;
  std::vector<std::int32_t> mapping(experts.size(), -1);
  for (std::size_t i = 0; i < experts.size(); ++i) {
    if (experts[i] < 0) continue;
    const Index rank = static_cast<Index>(i) / slots;
    const Index source = replication.slot_source[i];
    check_argument(
        source >= 0 && source < placement.num_ranks && source / domain_ranks == rank / domain_ranks,
        "replication", "slot {} of rank {} has source {}, expected a rank of its domain", i % slots,
        rank, source);
    const auto begin = placement.physical_to_logical.begin() + source * main;
    const auto found = std::find(begin, begin + main, experts[i]);
    check_argument(found != begin + main, "replication",
                   "rank {} sends expert {}, which it does not have", source, experts[i]);
    mapping[i] = source % domain_ranks * main + static_cast<Index>(found - begin);
  }
  return mapping;
}

std::vector<std::int32_t> experts_to_copy(const Replication& replication, Index num_ranks,
                                          Index columns) {
  const std::vector<Index>& experts = replication.slot_expert;
  check_argument(num_ranks >= 1 && !experts.empty() && experts.size() % num_ranks == 0, "num_ranks",
                 "{} does not divide the {} dynamic slots", num_ranks, experts.size());
  const auto slots = static_cast<Index>(experts.size() / num_ranks);
  check_argument(columns >= slots, "columns", "{} is less than the dynamic slots of a rank ({})",
                 columns, slots);
  std::vector<std::int32_t> out(static_cast<std::size_t>(columns) * num_ranks, -1);
  for (Index g = 0; g < num_ranks; ++g) {
    std::copy_n(experts.begin() + g * slots, slots, out.begin() + g * columns);
  }
  return out;
}

}  // namespace lplb
