// SPDX-License-Identifier: MIT
#pragma once

#include <vector>

#include "lplb/replicate.h"
#include "replicate/domain.h"

// From plans to the public result, step by step.
namespace lplb::replicas {

/// Sizes the result; no slot takes a token, and no dynamic slot is in use.
void begin_report(const Placement& placement, Index dynamic_slots, Replication& out);

/// Writes a split over the main slots.
void report_split(const Placement& placement, const Split& split, Replication& out);

/// Writes the plan of a domain, and chooses who sends each copy: of the ranks that have the expert,
/// the one that sends least so far. `sent` is scratch memory.
void report_domain(const Domain& domain, std::vector<Index>& sent, Replication& out);

/// Derives loads, levels, counts and status.
void finish_report(const RankCost& cost, std::span<const Index> live_ranks,
                   const Placement& placement, const Bound& bound, Replication& out);

}  // namespace lplb::replicas
