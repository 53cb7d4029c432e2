// SPDX-License-Identifier: MIT
#include "plan/quotas.h"

#include <algorithm>
#include <vector>

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

/// Writes an expert with quotas. `counts`: its count on rank g is at g * stride.
void write_split(const plan::QuotaExpert& expert, std::span<const Load> counts, std::size_t stride,
                 std::span<const Load> physical_load, Index rank, const QuotaOutputs& outputs) {
  Load total = 0;
  Load prefix = 0;
  for (Index g = 0; g < expert.num_ranks; ++g) {
    if (g == rank) prefix = total;
    total += counts[static_cast<std::size_t>(g) * stride];
  }
  const std::int32_t tokens = narrow(total, expert.logical);
  plan::write_replicated(
      expert,
      [&](Index i) {
        return static_cast<std::int32_t>(
            physical_load[static_cast<std::size_t>(expert.physical[i])]);
      },
      tokens, static_cast<std::int32_t>(prefix), outputs);
}

/// Divides this rank's own tokens of an expert evenly.
void write_evenly(const plan::QuotaExpert& expert, Load own, Index rank,
                  const QuotaOutputs& outputs) {
  const std::int32_t tokens = narrow(own, expert.logical);
  plan::write_replicated(
      expert, [&](Index i) { return plan::even_quota(expert, i, tokens, expert.logical + rank); },
      tokens, 0, outputs);
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

/// The replicas of a batch with copies, those of an expert by physical id.
class BatchReplicas {
 public:
  BatchReplicas(const Placement& placement, const PackedLayout& layout, const Replication& copies)
      : p_(placement), begin_(placement.replica_count.size() + 1, 0) {
    const std::size_t slots = copies.slot_expert.size();
    const auto ranks = static_cast<std::size_t>(placement.num_ranks);
    dynamic_ = static_cast<Index>(slots / ranks);
    check_argument(slots % ranks == 0 && slots > 0 &&
                       copies.physical_load.size() == placement.physical_to_logical.size() + slots,
                   "copies", "are of another placement");
    check_argument(layout.size() == placement.replica_count.size(), "layout",
                   "has {} counts, expected one for each of the {} experts", layout.size(),
                   placement.num_logical_experts);
    each([&](Index e, Index) { ++begin_[static_cast<std::size_t>(e) + 1]; }, copies);
    for (std::size_t e = 1; e < begin_.size(); ++e) begin_[e] += begin_[e - 1];
    physical_.resize(static_cast<std::size_t>(begin_.back()));
    std::vector<Index> next = begin_;
    each([&](Index e, Index slot) { physical_[next[e]++] = slot; }, copies);
  }

  Index dynamic_slots() const { return dynamic_; }
  plan::QuotaExpert expert(Index e) const {
    return {e,
            p_.num_logical_experts,
            p_.num_ranks,
            p_.slots_per_rank() + dynamic_,
            physical_.data() + begin_[e],
            begin_[e + 1] - begin_[e],
            p_.rank_alive.empty() ? nullptr : p_.rank_alive.data()};
  }

 private:
  /// Calls see(expert, physical id) for each slot in use, in order.
  template <class See>
  void each(See see, const Replication& copies) const {
    const Index main = p_.slots_per_rank();
    Index slot = 0;
    for (Index g = 0; g < p_.num_ranks; ++g) {
      for (Index i = 0; i < main; ++i) see(p_.physical_to_logical[g * main + i], slot++);
      for (Index i = 0; i < dynamic_; ++i, ++slot) {
        const Index e = copies.slot_expert[g * dynamic_ + i];
        if (e >= 0) see(e, slot);
      }
    }
  }

  const Placement& p_;
  Index dynamic_ = 0;
  std::vector<Index> begin_;  // [num_logical + 1]
  std::vector<Index> physical_;
};

}  // namespace

void plan::check_quota_outputs(const Placement& placement, Index dynamic_slots,
                               const QuotaOutputs& outputs) {
  const Index least = most_replicas(placement, dynamic_slots);
  check_argument(outputs.max_replicas >= least, "max_replicas", "{} is less than the {} ({})",
                 outputs.max_replicas,
                 dynamic_slots > 0 ? "placement's and num_ranks - 1" : "placement's", least);
}

void write_quotas(const Placement& placement, const PackedLayout& layout,
                  std::span<const Load> all_counts, std::span<const Load> physical_load, Index rank,
                  const QuotaOutputs& outputs) {
  check_layout(placement, layout, rank);
  plan::check_quota_outputs(placement, 0, outputs);
  const std::size_t size = layout.size();
  check_argument(all_counts.size() == size * static_cast<std::size_t>(placement.num_ranks),
                 "all_counts", "has {} entries, expected num_ranks x {}", all_counts.size(), size);
  check_argument(physical_load.size() == placement.physical_to_logical.size(), "physical_load",
                 "has {} entries, expected num_physical ({})", physical_load.size(),
                 placement.num_physical());
  write_experts(placement, layout, outputs,
                [&](const plan::QuotaExpert& expert, Index, std::size_t k) {
                  write_split(expert, all_counts.subspan(k), size, physical_load, rank, outputs);
                });
  if (outputs.solved != nullptr) *outputs.solved = 1;
}

void write_even_quotas(const Placement& placement, const PackedLayout& layout,
                       std::span<const Load> own, Index rank, const QuotaOutputs& outputs) {
  check_layout(placement, layout, rank);
  plan::check_quota_outputs(placement, 0, outputs);
  check_argument(own.size() == layout.size(), "own", "has {} entries, expected {}", own.size(),
                 layout.size());
  write_experts(placement, layout, outputs,
                [&](const plan::QuotaExpert& expert, Index, std::size_t k) {
                  write_evenly(expert, own[k], rank, outputs);
                });
  if (outputs.solved != nullptr) *outputs.solved = 0;
}

void write_quotas(const Placement& placement, const PackedLayout& layout,
                  std::span<const Load> all_counts, const Replication& copies, Index rank,
                  const QuotaOutputs& outputs) {
  check_layout(placement, layout, rank);
  const BatchReplicas replicas(placement, layout, copies);
  plan::check_quota_outputs(placement, replicas.dynamic_slots(), outputs);
  const std::size_t size = layout.size();
  check_argument(all_counts.size() == size * static_cast<std::size_t>(placement.num_ranks),
                 "all_counts", "has {} entries, expected num_ranks x {}", all_counts.size(), size);
  for (Index e = 0; e < placement.num_logical_experts; ++e) {
    write_split(replicas.expert(e), all_counts.subspan(static_cast<std::size_t>(layout.column[e])),
                size, copies.physical_load, rank, outputs);
  }
  if (outputs.solved != nullptr) *outputs.solved = 1;
}

void write_even_quotas(const Placement& placement, const PackedLayout& layout,
                       std::span<const Load> own, const Replication& copies, Index rank,
                       const QuotaOutputs& outputs) {
  check_layout(placement, layout, rank);
  Replication none = copies;
  std::fill(none.slot_expert.begin(), none.slot_expert.end(), -1);
  const BatchReplicas replicas(placement, layout, none);
  plan::check_quota_outputs(placement, replicas.dynamic_slots(), outputs);
  check_argument(own.size() == layout.size(), "own", "has {} entries, expected {}", own.size(),
                 layout.size());
  for (Index e = 0; e < placement.num_logical_experts; ++e) {
    write_evenly(replicas.expert(e), own[static_cast<std::size_t>(layout.column[e])], rank,
                 outputs);
  }
  if (outputs.solved != nullptr) *outputs.solved = 0;
}

}  // namespace lplb
