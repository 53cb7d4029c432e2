// SPDX-License-Identifier: MIT
#include <algorithm>
#include <cstdint>
#include <vector>

#include "core/check.h"
#include "core/made.h"
#include "lplb/mapping.h"
#include "map/map_cuda.h"
#include "map/token_map.h"

namespace lplb {
namespace {

void check_quotas(const Placement& placement, std::span<const Load> physical_load) {
  check_made(placement, "placement");
  check_argument(physical_load.size() == placement.physical_to_logical.size(), "physical_load",
                 "has {} entries, expected num_physical ({})", physical_load.size(),
                 placement.num_physical());
  for (Index p = 0; p < placement.num_physical(); ++p) {
    check_argument(physical_load[p] >= 0, "physical_load",
                   "physical expert {} has {} tokens, expected >= 0", p, physical_load[p]);
    check_argument(physical_load[p] == 0 || placement.alive(placement.rank_of(p)), "physical_load",
                   "physical expert {} has {} tokens, but rank {} is dead", p, physical_load[p],
                   placement.rank_of(p));
  }
}

Load sum_of_quotas(const Placement& placement, std::span<const Load> physical_load, Index expert) {
  Load sum = 0;
  for (const Index p : placement.replicas(expert)) {
    check_argument(!__builtin_add_overflow(sum, physical_load[p], &sum), "physical_load",
                   "the sum of expert {} passes 2^63 - 1", expert);
  }
  return sum;
}

void check_counts(const Placement& placement, std::span<const Load> counts,
                  std::span<const Load> physical_load) {
  const auto num_logical = static_cast<std::size_t>(placement.num_logical_experts);
  const std::size_t expected = num_logical * static_cast<std::size_t>(placement.num_ranks);
  check_argument(counts.size() == expected, "counts",
                 "has {} entries, expected num_ranks * num_logical_experts ({} * {})",
                 counts.size(), placement.num_ranks, placement.num_logical_experts);
  std::vector<Load> sums(num_logical, 0);
  for (std::size_t i = 0; i < expected; ++i) {
    const std::size_t e = i % num_logical;
    check_argument(counts[i] >= 0, "counts", "expert {} has {} tokens on rank {}, expected >= 0", e,
                   counts[i], i / num_logical);
    check_argument(!__builtin_add_overflow(sums[e], counts[i], &sums[e]), "counts",
                   "the sum of expert {} passes 2^63 - 1", e);
  }
  for (Index e = 0; e < placement.num_logical_experts; ++e) {
    const Load quotas = sum_of_quotas(placement, physical_load, e);
    check_argument(quotas == sums[e], "physical_load",
                   "the replicas of expert {} take {} tokens, expected its count of {}", e, quotas,
                   sums[e]);
  }
}

template <class Id>
void check_batch(const Placement& placement, Index rank, std::span<const Id> topk_idx,
                 std::span<Id> physical_idx, Backend backend) {
  check_argument(rank >= 0 && rank < placement.num_ranks, "rank", "{} is not between 0 and {}",
                 rank, placement.num_ranks - 1);
  check_argument(physical_idx.size() == topk_idx.size(), "physical_idx",
                 "has {} entries, expected as many as topk_idx ({})", physical_idx.size(),
                 topk_idx.size());
  check_argument(backend == Backend::kCpu || topk_idx.size() <= std::size_t{INT32_MAX}, "topk_idx",
                 "has {} entries, expected at most 2^31 - 1 on backend cuda", topk_idx.size());
}

/// How many tokens of each expert `topk_idx` holds: [num_logical].
template <class Id>
std::vector<Load> tally(const Placement& placement, std::span<const Id> topk_idx) {
  std::vector<Load> own(static_cast<std::size_t>(placement.num_logical_experts), 0);
  for (const Id id : topk_idx) {
    if (is_expert(id, placement.num_logical_experts)) ++own[static_cast<std::size_t>(id)];
  }
  return own;
}

template <class Id>
void map_exactly(const Placement& placement, std::span<const Load> counts,
                 std::span<const Load> physical_load, Index rank, std::span<const Id> topk_idx,
                 std::span<Id> physical_idx, Backend backend) {
  check_batch(placement, rank, topk_idx, physical_idx, backend);
  check_quotas(placement, physical_load);
  check_counts(placement, counts, physical_load);
  const std::vector<Load> own = tally(placement, topk_idx);
  for (Index e = 0; e < placement.num_logical_experts; ++e) {
    const Load said = counts[std::size_t{1} * rank * placement.num_logical_experts + e];
    check_argument(own[e] == said, "topk_idx",
                   "holds {} tokens of expert {}, expected what counts says of rank {} ({})",
                   own[e], e, rank, said);
  }
  if (backend == Backend::kCuda) {
    map::map_cuda(placement, counts, physical_load, rank, topk_idx, physical_idx);
    return;
  }
  map::TokenMap token_map;
  token_map.assign_exactly(placement, {counts.data(), placement.num_logical_experts, nullptr},
                           physical_load.data(), rank);
  token_map.apply(topk_idx, physical_idx);
}

template <class Id>
void map_in_proportion(const Placement& placement, std::span<const Load> physical_load, Index rank,
                       std::span<const Id> topk_idx, std::span<Id> physical_idx, Backend backend) {
  check_batch(placement, rank, topk_idx, physical_idx, backend);
  check_quotas(placement, physical_load);
  for (Index e = 0; e < placement.num_logical_experts; ++e) {
    sum_of_quotas(placement, physical_load, e);
  }
  if (backend == Backend::kCuda) {
    map::map_cuda(placement, {}, physical_load, rank, topk_idx, physical_idx);
    return;
  }
  const std::vector<Load> own = tally(placement, topk_idx);
  map::TokenMap token_map;
  token_map.divide_in_proportion(placement, own.data(), physical_load.data(), rank);
  token_map.apply(topk_idx, physical_idx);
}

}  // namespace

void map_tokens(const Placement& placement, std::span<const Load> counts,
                std::span<const Load> physical_load, Index rank,
                std::span<const std::int32_t> topk_idx, std::span<std::int32_t> physical_idx,
                Backend backend) {
  map_exactly(placement, counts, physical_load, rank, topk_idx, physical_idx, backend);
}

void map_tokens(const Placement& placement, std::span<const Load> counts,
                std::span<const Load> physical_load, Index rank,
                std::span<const std::int64_t> topk_idx, std::span<std::int64_t> physical_idx,
                Backend backend) {
  map_exactly(placement, counts, physical_load, rank, topk_idx, physical_idx, backend);
}

void map_tokens_in_proportion(const Placement& placement, std::span<const Load> physical_load,
                              Index rank, std::span<const std::int32_t> topk_idx,
                              std::span<std::int32_t> physical_idx, Backend backend) {
  map_in_proportion(placement, physical_load, rank, topk_idx, physical_idx, backend);
}

void map_tokens_in_proportion(const Placement& placement, std::span<const Load> physical_load,
                              Index rank, std::span<const std::int64_t> topk_idx,
                              std::span<std::int64_t> physical_idx, Backend backend) {
  map_in_proportion(placement, physical_load, rank, topk_idx, physical_idx, backend);
}

// Stages 1 and 2 together keep min(tokens, quota) of an expert on each node; docs/math.md proves
// it.
Locality count_local(const Placement& placement, std::span<const Load> counts,
                     std::span<const Load> physical_load) {
  check_quotas(placement, physical_load);
  check_counts(placement, counts, physical_load);
  Locality local;
  const Index ranks_per_node = placement.num_ranks / placement.num_nodes;
  for (Index e = 0; e < placement.num_logical_experts; ++e) {
    const std::span<const Index> replicas = placement.replicas(e);
    auto next = replicas.begin();
    for (Index node = 0; node < placement.num_nodes; ++node) {
      Load node_tokens = 0;
      Load node_quota = 0;
      for (Index i = 0; i < ranks_per_node; ++i) {
        const Index rank = node * ranks_per_node + i;
        const Load tokens = counts[std::size_t{1} * rank * placement.num_logical_experts + e];
        Load quota = 0;
        for (; next != replicas.end() && placement.rank_of(*next) == rank; ++next) {
          quota += physical_load[*next];
        }
        local.same_rank += std::min(tokens, quota);
        node_tokens += tokens;
        node_quota += quota;
      }
      local.same_node += std::min(node_tokens, node_quota);
    }
  }
  return local;
}

}  // namespace lplb
