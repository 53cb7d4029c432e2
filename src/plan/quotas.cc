// SPDX-License-Identifier: MIT
#include "plan/quotas.h"

#include "core/check.h"

namespace lplb {
namespace {

plan::QuotaExpert expert_of(const Placement& p, Index e) {
  const std::span<const Index> replicas = p.replicas(e);
  return {e,
          p.num_logical_experts,
          p.num_ranks,
          p.slots_per_rank(),
          replicas.data(),
          static_cast<Index>(replicas.size()),
          p.rank_alive.empty() ? nullptr : p.rank_alive.data()};
}

std::int32_t narrow(Load tokens, Index expert) {
  check_argument(tokens >= 0 && tokens < kUnlimitedQuota, "all_counts",
                 "expert {} has {} tokens, expected 0 to 2^31 - 2", expert, tokens);
  return static_cast<std::int32_t>(tokens);
}

void check_layout(const Placement& placement, const PackedLayout& layout, Index rank) {
  check_argument(layout.home.size() == placement.replica_count.size() &&
                     layout.num_ranks == placement.num_ranks,
                 "layout", "is of another placement");
  check_argument(rank >= 0 && rank < placement.num_ranks, "rank", "{} is not between 0 and {}",
                 rank, placement.num_ranks - 1);
}

/// Writes the experts with one replica, and calls body(expert, e, k) for the k-th replicated
/// expert, whose logical id is e.
template <class Body>
void write_experts(const Placement& placement, const PackedLayout& layout,
                   const QuotaOutputs& outputs, Body body) {
  std::size_t k = 0;
  for (Index e = 0; e < placement.num_logical_experts; ++e) {
    const plan::QuotaExpert expert = expert_of(placement, e);
    const Index home = layout.home[static_cast<std::size_t>(e)];
    if (home >= 0) {
      plan::write_single(expert, home, outputs);
    } else {
      body(expert, e, k++);
    }
  }
}

}  // namespace

void plan::check_quota_outputs(const Placement& placement, const QuotaOutputs& outputs) {
  check_argument(outputs.max_replicas >= placement.max_replicas, "max_replicas",
                 "{} is less than the placement's ({})", outputs.max_replicas,
                 placement.max_replicas);
}

void write_quotas(const Placement& placement, const PackedLayout& layout,
                  std::span<const Load> all_counts, std::span<const Load> physical_load, Index rank,
                  const QuotaOutputs& outputs) {
  check_layout(placement, layout, rank);
  plan::check_quota_outputs(placement, outputs);
  const std::size_t size = layout.size();
  check_argument(all_counts.size() == size * static_cast<std::size_t>(placement.num_ranks),
                 "all_counts", "has {} entries, expected num_ranks x {}", all_counts.size(), size);
  check_argument(physical_load.size() == placement.physical_to_logical.size(), "physical_load",
                 "has {} entries, expected num_physical ({})", physical_load.size(),
                 placement.num_physical());
  write_experts(placement, layout, outputs,
                [&](const plan::QuotaExpert& expert, Index e, std::size_t k) {
                  Load total = 0;
                  Load prefix = 0;
                  for (Index g = 0; g < placement.num_ranks; ++g) {
                    if (g == rank) prefix = total;
                    total += all_counts[static_cast<std::size_t>(g) * size + k];
                  }
                  const std::int32_t tokens = narrow(total, e);
                  plan::write_replicated(
                      expert,
                      [&](Index i) {
                        return static_cast<std::int32_t>(
                            physical_load[static_cast<std::size_t>(expert.physical[i])]);
                      },
                      tokens, static_cast<std::int32_t>(prefix), outputs);
                });
  if (outputs.solved != nullptr) *outputs.solved = 1;
}

void write_even_quotas(const Placement& placement, const PackedLayout& layout,
                       std::span<const Load> own, Index rank, const QuotaOutputs& outputs) {
  check_layout(placement, layout, rank);
  plan::check_quota_outputs(placement, outputs);
  check_argument(own.size() == layout.size(), "own", "has {} entries, expected {}", own.size(),
                 layout.size());
  write_experts(
      placement, layout, outputs, [&](const plan::QuotaExpert& expert, Index e, std::size_t k) {
        const std::int32_t tokens = narrow(own[k], e);
        plan::write_replicated(
            expert, [&](Index i) { return plan::even_quota(expert, i, tokens, e + rank); }, tokens,
            0, outputs);
      });
  if (outputs.solved != nullptr) *outputs.solved = 0;
}

}  // namespace lplb
