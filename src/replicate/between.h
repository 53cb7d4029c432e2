// SPDX-License-Identifier: MIT
#pragma once

#include <span>
#include <vector>

#include "core/cost.h"
#include "lplb/solver.h"
#include "replicate/bound.h"

namespace lplb::replicas {

/// Domains as ranks: as fast as their live ranks together, and dead if they have none.
PlacementOptions domains_as_ranks(const Placement& placement, Index num_domains);

/// The exact split between several domains: each domain is one rank of a smaller problem. Only the
/// replicas that a placement has across domains join them.
class BetweenDomains {
 public:
  /// `cost` must outlive the object.
  BetweenDomains(const Placement& placement, Index num_domains, const RankCost& cost);

  void split(std::span<const Load> load);

  /// Writes the part of a domain, by logical expert.
  void part(Index domain, std::vector<Load>& load) const;

  /// The domains of the certificate must carry what only they have. That bounds every plan.
  void bound(std::span<const Load> load, Bound& bound);

  /// The best split of the batch over the main slots, without any copy and by single ranks.
  const Split& without_copies() const { return whole_split_; }

 private:
  const Placement placement_, merged_;
  const RankCost& cost_;
  Index domain_ranks_;
  SplitProblem whole_problem_, merged_problem_;
  Workspace workspace_;
  Split whole_split_, merged_split_;
  std::vector<Level> heap_;
};

}  // namespace lplb::replicas
