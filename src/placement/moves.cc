// SPDX-License-Identifier: MIT
#include <algorithm>
#include <tuple>

#include "core/check.h"
#include "core/made.h"
#include "lplb/placement.h"

namespace lplb {
namespace {

void check_match(const Placement& from, const Placement& to) {
  check_made(from, "from");
  check_made(to, "to");
  check_argument(from.num_ranks == to.num_ranks, "to", "has {} ranks, expected {} as `from` has",
                 to.num_ranks, from.num_ranks);
  check_argument(from.num_nodes == to.num_nodes, "to", "has {} nodes, expected {} as `from` has",
                 to.num_nodes, from.num_nodes);
  check_argument(from.num_logical_experts == to.num_logical_experts, "to",
                 "has {} logical experts, expected {} as `from` has", to.num_logical_experts,
                 from.num_logical_experts);
  check_argument(from.num_physical() == to.num_physical(), "to",
                 "has {} physical experts, expected {} as `from` has", to.num_physical(),
                 from.num_physical());
}

MoveKind distance(const Placement& placement, Index a, Index b) {
  if (a == b) return MoveKind::kSameRank;
  return placement.node_of(a) == placement.node_of(b) ? MoveKind::kSameNode : MoveKind::kOtherNode;
}

}  // namespace

std::vector<Move> plan_moves(const Placement& from, const Placement& to) {
  check_match(from, to);
  // The contents of a slot can be read only if its rank is live before and after the change.
  const auto readable = [&](Index slot) {
    const Index rank = from.rank_of(slot);
    return from.alive(rank) && to.alive(rank);
  };

  std::vector<Move> moves;
  for (Index target = 0; target < to.num_physical(); ++target) {
    const Index rank = to.rank_of(target);
    const Index logical = to.physical_to_logical[target];
    if (!to.alive(rank)) continue;
    if (from.physical_to_logical[target] == logical && readable(target)) continue;

    Move best{.logical = logical, .source = -1, .target = target, .kind = MoveKind::kOtherNode};
    for (const Index source : from.replicas(logical)) {
      if (!readable(source)) continue;
      const MoveKind kind = distance(from, from.rank_of(source), rank);
      if (best.source >= 0 && kind >= best.kind) continue;
      best.source = source;
      best.kind = kind;
    }
    check_argument(best.source >= 0, "from",
                   "expert {} is on no rank that is alive in both placements", logical);
    moves.push_back(best);
  }
  std::sort(moves.begin(), moves.end(), [](const Move& a, const Move& b) {
    return std::tie(a.kind, a.target) < std::tie(b.kind, b.target);
  });
  return moves;
}

Placement keep_slots(const Placement& from, const Placement& to) {
  check_match(from, to);
  const Index slots = to.slots_per_rank();
  std::vector<Index> kept(to.physical_to_logical.size(), -1);
  std::vector<Index> wanted(static_cast<std::size_t>(to.num_logical_experts), 0);
  std::vector<Index> rest;
  for (Index rank = 0; rank < to.num_ranks; ++rank) {
    const Index first = rank * slots;
    const Index last = first + slots;
    for (Index s = first; s < last; ++s) ++wanted[to.physical_to_logical[s]];
    for (Index s = first; s < last; ++s) {
      const Index e = from.physical_to_logical[s];
      if (wanted[e] == 0) continue;
      --wanted[e];
      kept[s] = e;
    }
    // Experts that are new on this rank go into the other slots, in the order of `to`.
    rest.clear();
    for (Index s = first; s < last; ++s) {
      const Index e = to.physical_to_logical[s];
      if (wanted[e] == 0) continue;
      --wanted[e];
      rest.push_back(e);
    }
    auto next = rest.begin();
    for (Index s = first; s < last; ++s) {
      if (kept[s] < 0) kept[s] = *next++;
    }
  }
  return make_placement(
      to.num_ranks, to.num_logical_experts, kept,
      {.num_nodes = to.num_nodes, .rank_speed = to.rank_speed, .rank_alive = to.rank_alive});
}

}  // namespace lplb
