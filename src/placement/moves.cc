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
  check_argument(from.num_logical_experts == to.num_logical_experts, "to",
                 "has {} logical experts, expected {} as `from` has", to.num_logical_experts,
                 from.num_logical_experts);
}

/// The new placement says which ranks share a node. Of ranks that leave, the old one says it.
MoveKind distance(const Placement& from, const Placement& to, Index source, Index target) {
  if (source == target) return MoveKind::kSameRank;
  const Placement& map = source < to.num_ranks ? to : from;
  return map.node_of(source) == map.node_of(target) ? MoveKind::kSameNode : MoveKind::kOtherNode;
}

/// The expert that slot `i` of `rank` held, or -1 if there was no such slot.
Index held(const Placement& from, Index rank, Index i) {
  if (rank >= from.num_ranks || i >= from.slots_per_rank()) return -1;
  return from.physical_to_logical[rank * from.slots_per_rank() + i];
}

}  // namespace

std::vector<Move> plan_moves(const Placement& from, const Placement& to) {
  check_match(from, to);
  // The contents of a rank can be read only if it is live before the change, and after it or
  // leaving.
  const auto readable = [&](Index rank) {
    return from.alive(rank) && (rank >= to.num_ranks || to.alive(rank));
  };

  std::vector<Move> moves;
  for (Index target = 0; target < to.num_physical(); ++target) {
    const Index rank = to.rank_of(target);
    const Index logical = to.physical_to_logical[target];
    if (!to.alive(rank)) continue;
    if (held(from, rank, target % to.slots_per_rank()) == logical && readable(rank)) continue;

    Move best{.logical = logical, .source = -1, .target = target, .kind = MoveKind::kLost};
    for (const Index source : from.replicas(logical)) {
      const Index giver = from.rank_of(source);
      if (!readable(giver)) continue;
      const MoveKind kind = distance(from, to, giver, rank);
      if (best.source >= 0 && kind >= best.kind) continue;
      best.source = source;
      best.kind = kind;
    }
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
      const Index e = held(from, rank, s - first);
      if (e < 0 || wanted[e] == 0) continue;
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
