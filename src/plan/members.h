// SPDX-License-Identifier: MIT
#pragma once

#include <vector>

#include "core/check.h"
#include "lplb/types.h"

// Who takes part in an exchange. The ranks of a group are its members. A group has either a member
// for each rank of the placement, or one for each live rank: member i is then the i-th live rank,
// and dead ranks never call.
namespace lplb::plan {

inline Index num_live(const Placement& placement) {
  Index live = 0;
  for (Index g = 0; g < placement.num_ranks; ++g) live += placement.alive(g) ? 1 : 0;
  return live;
}

/// How many of the ranks below each rank are members: [num_ranks + 1]. So rank g is member
/// below[g], if below[g + 1] is larger.
inline std::vector<Index> members_below(const Placement& placement, Index num_members) {
  std::vector<Index> below{0};
  for (Index g = 0; g < placement.num_ranks; ++g) {
    const bool is_member = num_members == placement.num_ranks || placement.alive(g);
    below.push_back(below.back() + (is_member ? 1 : 0));
  }
  return below;
}

/// Checks that a group of `num_members` can exchange the counts of the placement. Throws
/// ArgumentError about `argument`.
inline void check_num_members(const Placement& placement, Index num_members, const char* argument) {
  const Index live = num_live(placement);
  if (live == placement.num_ranks) {
    check_argument(num_members == placement.num_ranks, argument,
                   "{} ranks, expected those of the placement ({})", num_members,
                   placement.num_ranks);
  } else {
    check_argument(num_members == placement.num_ranks || num_members == live, argument,
                   "{} ranks, expected those of the placement ({}) or its live ones ({})",
                   num_members, placement.num_ranks, live);
  }
}

/// Checks that `exchange`, an Exchange or a DeviceExchange, is that of `rank`. Throws
/// ArgumentError.
template <class AnyExchange>
void check_member(const Placement& placement, Index rank, const AnyExchange& exchange) {
  const Index num_members = exchange.num_ranks();
  check_num_members(placement, num_members, "exchange");
  check_argument(num_members == placement.num_ranks || placement.alive(rank), "rank",
                 "{} is dead, expected a live one: the exchange has no other ranks", rank);
  const Index member = members_below(placement, num_members)[rank];
  check_argument(exchange.rank() == member, "exchange", "is that of rank {}, expected {}",
                 exchange.rank(), member);
}

/// Checks that a group can go on with the placement `next` after `first`: if only the live ranks
/// are members, these must stay as they are. Throws ArgumentError.
inline void check_next_members(const Placement& next, const Placement& first, Index num_members) {
  if (num_members == first.num_ranks) return;
  check_argument(num_live(next) == num_members, "placement",
                 "has {} live ranks, expected as many as the group has members ({})",
                 num_live(next), num_members);
  for (Index g = 0; g < next.num_ranks; ++g) {
    check_argument(next.alive(g) == first.alive(g), "placement",
                   "rank {} is {}, expected the live ranks of the first: they are the members of "
                   "the group",
                   g, next.alive(g) ? "alive" : "dead");
  }
}

}  // namespace lplb::plan
