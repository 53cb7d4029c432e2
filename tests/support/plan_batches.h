// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "lplb/exchange.h"
#include "lplb/mapping.h"
#include "lplb/solver.h"
#include "support/instances.h"

// Placements and batches for the tests of the planners of both backends.
namespace lplb::testing {

/// Any placement of equal speeds. Some have nodes, dead ranks, or replicas that share a rank.
inline Placement random_placement(SplitMix64& random, Index max_ranks) {
  RandomLimits limits;
  limits.max_ranks = max_ranks;
  limits.max_slots_per_rank = 1 + random.below(6);
  limits.speeds = false;
  const Placement p = random_instance(random.next(), limits).placement;
  PlacementOptions options;
  options.rank_alive = p.rank_alive;
  for (const Index nodes : {4, 3, 2}) {
    if (p.num_ranks % nodes == 0 && random.below(2) == 0) options.num_nodes = nodes;
  }
  return make_placement(p.num_ranks, p.num_logical_experts, p.physical_to_logical, options);
}

/// Expert 0 on both ranks, 1 on rank 0, 2 on rank 1.
inline Placement two_ranks() {
  const std::vector<Index> map = {0, 1, 2, 0};
  return make_placement(2, 3, map);
}

/// A batch of all ranks. A test may convert `topk` to int32. The counts are those of the valid
/// entries.
struct GroupBatch {
  std::vector<std::vector<std::int64_t>> topk;  ///< [num_ranks][tokens * num_topk]
  std::vector<Load> counts;                     ///< [num_ranks, num_logical]
  std::vector<std::int32_t> packed;             ///< [num_ranks, PackedLayout::size()]
};

inline std::vector<Index> live_ranks(const Placement& p) {
  std::vector<Index> live;
  for (Index g = 0; g < p.num_ranks; ++g) {
    if (p.alive(g)) live.push_back(g);
  }
  return live;
}

/// Like random_placement(), with at least one dead rank.
inline Placement random_with_dead(SplitMix64& random, Index max_ranks) {
  Placement p = random_placement(random, max_ranks);
  while (live_ranks(p).size() == static_cast<std::size_t>(p.num_ranks)) {
    p = random_placement(random, max_ranks);
  }
  return p;
}

/// The rows of the live ranks in `rows` [num_ranks, columns].
template <class T>
std::vector<T> live_rows(const Placement& p, const std::vector<T>& rows) {
  const auto columns = static_cast<std::ptrdiff_t>(rows.size()) / p.num_ranks;
  std::vector<T> live;
  for (const Index g : live_ranks(p)) {
    const auto row = rows.begin() + g * columns;
    live.insert(live.end(), row, row + columns);
  }
  return live;
}

struct BatchShape {
  Index num_topk = 2;
  std::int64_t max_tokens = 100;  ///< a rank has 0 to max_tokens tokens
  int bad_of_16 = 1;              ///< how many of 16 entries are -1 or bad
  bool skewed = true;
};

/// What the ranks exchange: `counts` [num_ranks, num_logical], packed.
inline std::vector<std::int32_t> packed_rows(const PackedLayout& layout,
                                             const std::vector<Load>& counts) {
  const std::size_t num_logical = layout.column.size();
  std::vector<std::int32_t> rows;
  std::vector<Load> row(layout.size());
  for (std::size_t i = 0; i < counts.size(); i += num_logical) {
    layout.pack(std::span(counts).subspan(i, num_logical), row);
    for (const Load n : row) rows.push_back(static_cast<std::int32_t>(n));
  }
  return rows;
}
inline std::vector<std::int32_t> packed_rows(const Placement& p, const std::vector<Load>& counts,
                                             Singles singles) {
  return packed_rows(PackedLayout(p, singles), counts);
}

inline GroupBatch draw_batch(const Placement& p, const BatchShape& shape, SplitMix64& random) {
  GroupBatch batch;
  const auto num_logical = static_cast<std::size_t>(p.num_logical_experts);
  for (Index g = 0; g < p.num_ranks; ++g) {
    const Load tokens = random.below(4) == 0 ? 0 : random.between(0, shape.max_tokens);
    std::vector<std::int64_t> topk(static_cast<std::size_t>(tokens * shape.num_topk));
    std::vector<Load> counts(num_logical, 0);
    for (std::int64_t& id : topk) {
      id = random.below(p.num_logical_experts);
      if (shape.skewed) id = id * random.below(p.num_logical_experts) / p.num_logical_experts;
      if (random.below(16) < shape.bad_of_16) {
        const std::int64_t bad[] = {-1, -1, -2, p.num_logical_experts, 1 << 30};
        id = bad[random.below(5)];
      }
      if (id >= 0 && id < p.num_logical_experts) ++counts[static_cast<std::size_t>(id)];
    }
    batch.counts.insert(batch.counts.end(), counts.begin(), counts.end());
    batch.topk.push_back(std::move(topk));
  }
  batch.packed = packed_rows(p, batch.counts, Singles::kSummed);
  return batch;
}

/// Like draw_batch(); dead ranks have no tokens.
inline GroupBatch draw_live_batch(const Placement& p, const BatchShape& shape, SplitMix64& random) {
  GroupBatch batch = draw_batch(p, shape, random);
  const auto clear_row = [&](auto& rows, Index g) {
    const auto columns = static_cast<std::ptrdiff_t>(rows.size()) / p.num_ranks;
    std::fill_n(rows.begin() + g * columns, columns, 0);
  };
  for (Index g = 0; g < p.num_ranks; ++g) {
    if (p.alive(g)) continue;
    batch.topk[static_cast<std::size_t>(g)].clear();
    clear_row(batch.counts, g);
    clear_row(batch.packed, g);
  }
  return batch;
}

/// Maps the tokens of `rank` by the exact split of another batch, which has the counts `before`
/// [num_ranks, num_logical].
inline std::vector<std::int64_t> map_stale(const Placement& p, const std::vector<Load>& before,
                                           Index rank, std::span<const std::int64_t> topk) {
  std::vector<Load> sum(static_cast<std::size_t>(p.num_logical_experts), 0);
  for (std::size_t i = 0; i < before.size(); ++i) sum[i % sum.size()] += before[i];
  std::vector<std::int64_t> out(topk.size());
  map_tokens_in_proportion(p, solve(p, sum).physical_load, rank, topk, out);
  return out;
}

}  // namespace lplb::testing
