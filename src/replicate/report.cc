// SPDX-License-Identifier: MIT
#include "replicate/report.h"

#include <algorithm>
#include <numeric>

namespace lplb::replicas {

void begin_report(const Placement& placement, Index dynamic_slots, Replication& out) {
  const auto ranks = static_cast<std::size_t>(placement.num_ranks);
  const auto dynamic = ranks * static_cast<std::size_t>(dynamic_slots);
  out.slot_expert.assign(dynamic, -1);
  out.slot_source.assign(dynamic, -1);
  out.rank_load.assign(ranks, 0);
  out.physical_load.assign(placement.physical_to_logical.size() + dynamic, 0);
  out.copies = out.max_sent = out.max_received = 0;
}

void report_split(const Placement& placement, const Split& split, Replication& out) {
  const Index main = placement.slots_per_rank();
  const auto all = static_cast<Index>(out.physical_load.size()) / placement.num_ranks;
  for (Index slot = 0; slot < placement.num_physical(); ++slot) {
    out.physical_load[slot / main * all + slot % main] = split.physical_load[slot];
  }
}

void report_domain(const Domain& domain, std::vector<Index>& sent, Replication& out) {
  const DomainTables& t = domain.tables();
  const std::span<const Load> physical = domain.physical_load();
  const Index slots = t.main_slots + t.dynamic_slots;
  std::copy(physical.begin(), physical.end(), out.physical_load.begin() + t.first_rank * slots);

  const std::span<const Index> dynamic = domain.dynamic_expert();
  sent.assign(static_cast<std::size_t>(t.num_ranks), 0);
  for (Index rank = 0; rank < t.num_ranks; ++rank) {
    Index received = 0;
    for (Index i = 0; i < t.dynamic_slots; ++i) {
      const Index e = dynamic[rank * t.dynamic_slots + i];
      if (e < 0) continue;
      Index source = -1;
      for (Index g = 0; g < t.num_ranks; ++g) {
        if (t.holds(g, e) && (source < 0 || sent[g] < sent[source])) source = g;
      }
      const auto at = static_cast<std::size_t>(t.first_rank + rank) * t.dynamic_slots + i;
      out.slot_expert[at] = t.expert[e];
      out.slot_source[at] = t.first_rank + source;
      ++out.copies;
      ++received;
      out.max_sent = std::max(out.max_sent, ++sent[source]);
    }
    out.max_received = std::max(out.max_received, received);
  }
}

void finish_report(const RankCost& cost, std::span<const Index> live_ranks,
                   const Placement& placement, const Bound& bound, Replication& out) {
  const auto slots = static_cast<Index>(out.physical_load.size()) / placement.num_ranks;
  for (Index g = 0; g < placement.num_ranks; ++g) {
    const auto slot = out.physical_load.begin() + g * slots;
    out.rank_load[g] = std::accumulate(slot, slot + slots, Load{0});
  }
  out.max_level = {0, live_ranks[0]};
  for (const Index g : live_ranks) {
    const Level level{out.rank_load[g], g};
    if (cost.compare(level, out.max_level) > 0) out.max_level = level;
  }
  const bool optimal = cost.compare(out.max_level, bound.level) <= 0;
  out.status = optimal ? SolveStatus::kOptimal : SolveStatus::kBounded;
  out.bound_level = bound.level;
  out.bottleneck_ranks = bound.ranks;
  out.max_load = cost.price(out.max_level);
  // Equal levels of ranks with different speeds may round to different prices, so report one.
  out.lower_bound = optimal ? out.max_load : cost.price(bound.level);
}

}  // namespace lplb::replicas
