// SPDX-License-Identifier: MIT
#include <algorithm>
#include <tuple>

#include "core/check.h"
#include "core/made.h"
#include "lplb/placement.h"
#include "placement/assignment.h"

namespace lplb {
namespace {

/// Dearer than all moves, so that it is never part of a cheapest assignment.
constexpr std::int64_t kNever = std::int64_t{1} << 40;

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

/// Whether the contents of a rank can be read: it is live before the change, and after it or
/// leaving.
bool is_readable(const Placement& from, const Placement& to, Index rank) {
  return from.alive(rank) && (rank >= to.num_ranks || to.alive(rank));
}

/// What it costs if ranks of `to` exchange their contents.
class ExchangeCosts {
 public:
  ExchangeCosts(const Placement& from, const Placement& to)
      : to_(to), kind_(std::size_t{1} * to.num_ranks * to.num_logical_experts) {
    std::fill(kind_.begin(), kind_.end(), MoveKind::kOtherNode);
    for (Index p = 0; p < from.num_physical(); ++p) {
      const Index source = from.rank_of(p);
      if (!is_readable(from, to, source)) continue;
      for (Index target = 0; target < to.num_ranks; ++target) {
        MoveKind& kind = kind_[at(target, from.physical_to_logical[p])];
        kind = std::min(kind, distance(from, to, source, target));
      }
    }
  }

  /// If `target` gets what `to` has on `source`: first the experts that other ranks send count,
  /// then those from other nodes, and then that the contents are exchanged at all.
  std::int64_t cost(Index source, Index target) const {
    if (to_.speed(source) != to_.speed(target)) return kNever;
    const Index slots = to_.slots_per_rank();
    std::int64_t fetched = 0;
    std::int64_t far = 0;
    for (Index p = source * slots; p < (source + 1) * slots; ++p) {
      const MoveKind kind = kind_[at(target, to_.physical_to_logical[p])];
      fetched += kind != MoveKind::kSameRank;
      far += kind == MoveKind::kOtherNode;
    }
    return (fetched * (to_.num_physical() + 1) + far) * (to_.num_ranks + 1) + (source != target);
  }

 private:
  std::size_t at(Index rank, Index expert) const {
    return std::size_t{1} * rank * to_.num_logical_experts + expert;
  }

  const Placement& to_;
  std::vector<MoveKind> kind_;  // [ranks of `to`, experts]: of the move that brings it there
};

/// Who gets whose contents: `target` has a number for each source. `cost` is at most kNever, which
/// says that the exchange cannot be.
struct RankExchange {
  std::vector<Index> target;
  std::int64_t cost = 0;
};

/// The cheapest exchange if cost(i, k) is what it costs that k gets the contents of i.
template <class Cost>
RankExchange cheapest(std::size_t n, Cost cost) {
  std::vector<std::int64_t> costs(n * n);
  for (std::size_t i = 0; i < n * n; ++i) costs[i] = std::min(kNever, cost(i / n, i % n));
  RankExchange exchange{.target = placement::least_assignment(costs, static_cast<Index>(n))};
  for (std::size_t i = 0; i < n; ++i) exchange.cost += costs[i * n + exchange.target[i]];
  exchange.cost = std::min(kNever, exchange.cost);
  return exchange;
}

}  // namespace

std::vector<Move> plan_moves(const Placement& from, const Placement& to) {
  check_match(from, to);

  std::vector<Move> moves;
  for (Index target = 0; target < to.num_physical(); ++target) {
    const Index rank = to.rank_of(target);
    const Index logical = to.physical_to_logical[target];
    if (!to.alive(rank)) continue;
    if (held(from, rank, target % to.slots_per_rank()) == logical && is_readable(from, to, rank)) {
      continue;
    }

    Move best{.logical = logical, .source = -1, .target = target, .kind = MoveKind::kLost};
    for (const Index source : from.replicas(logical)) {
      const Index giver = from.rank_of(source);
      if (!is_readable(from, to, giver)) continue;
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

Placement keep_ranks(const Placement& from, const Placement& to, bool keep_nodes) {
  check_match(from, to);
  const ExchangeCosts costs(from, to);
  const Index num_nodes = keep_nodes ? to.num_nodes : 1;
  std::vector<std::vector<Index>> live(static_cast<std::size_t>(num_nodes));  // ranks of each node
  for (Index g = 0; g < to.num_ranks; ++g) {
    if (to.alive(g)) live[g / (to.num_ranks / num_nodes)].push_back(g);
  }
  // First each pair of nodes, as if these exchanged their contents; then which nodes do so.
  const std::size_t nodes = live.size();
  std::vector<RankExchange> within(nodes * nodes);
  const RankExchange between = cheapest(nodes, [&](std::size_t source, std::size_t target) {
    if (live[source].size() != live[target].size()) return kNever;
    RankExchange& exchange = within[source * nodes + target];
    exchange = cheapest(live[source].size(), [&](std::size_t i, std::size_t k) {
      return costs.cost(live[source][i], live[target][k]);
    });
    return exchange.cost;
  });

  std::vector<Index> slots = to.physical_to_logical;
  for (std::size_t source = 0; source < nodes; ++source) {
    const auto target = static_cast<std::size_t>(between.target[source]);
    const RankExchange& exchange = within[source * nodes + target];
    for (std::size_t i = 0; i < live[source].size(); ++i) {
      const auto first = to.physical_to_logical.begin() + live[source][i] * to.slots_per_rank();
      std::copy(first, first + to.slots_per_rank(),
                slots.begin() + live[target][exchange.target[i]] * to.slots_per_rank());
    }
  }
  return keep_slots(from, make_placement(to.num_ranks, to.num_logical_experts, slots,
                                         {.num_nodes = to.num_nodes,
                                          .rank_speed = to.rank_speed,
                                          .rank_alive = to.rank_alive}));
}

}  // namespace lplb
