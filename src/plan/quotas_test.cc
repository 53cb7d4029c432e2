// SPDX-License-Identifier: MIT
#include "lplb/quotas.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "lplb/error.h"
#include "support/instances.h"

namespace lplb {
namespace {

using ::testing::ElementsAre;

/// Three experts on two ranks of two slots: expert 0 is on both.
Placement small(std::vector<char> alive = {}) {
  const Index map[] = {0, 1, 0, 2};
  return make_placement(2, 3, map, {.rank_alive = std::move(alive)});
}

struct Tables {
  Tables(const Placement& p, Index max_replicas)
      : quota_end(static_cast<std::size_t>(p.num_logical_experts * max_replicas), -9),
        source_prefix(static_cast<std::size_t>(p.num_logical_experts), -9),
        alloc(static_cast<std::size_t>(p.num_ranks * p.num_logical_experts), -9),
        shares(quota_end.size(), -9) {
    outputs = {max_replicas, quota_end.data(), source_prefix.data(),
               alloc.data(), shares.data(),    &solved};
  }
  std::vector<std::int32_t> quota_end, source_prefix, alloc;
  std::vector<float> shares;
  std::int32_t solved = -9;
  QuotaOutputs outputs;
};

TEST(Quotas, AreTheSplit) {
  const Placement p = small();
  const PackedLayout layout(p);
  // Columns: expert 0, then the single-replica experts of ranks 0 and 1.
  const Load counts[] = {6, 5, 0, 4, 0, 3};
  const Load split[] = {4, 5, 6, 3};
  Tables t(p, 3);
  write_quotas(p, layout, counts, split, 1, t.outputs);
  EXPECT_THAT(t.quota_end, ElementsAre(4, 10, 10, kUnlimitedQuota, kUnlimitedQuota, kUnlimitedQuota,
                                       kUnlimitedQuota, kUnlimitedQuota, kUnlimitedQuota));
  EXPECT_THAT(t.source_prefix, ElementsAre(6, 0, 0));
  EXPECT_THAT(t.alloc, ElementsAre(4, -1, 0, 6, 0, -1));
  EXPECT_THAT(t.shares, ElementsAre(0.4F, 0.6F, 0, 1, 0, 0, 1, 0, 0));
  EXPECT_EQ(t.solved, 1);
}

TEST(Quotas, EachTableMayBeMissing) {
  const Placement p = small();
  const PackedLayout layout(p);
  const Load counts[] = {6, 5, 0, 4, 0, 3};
  const Load split[] = {4, 5, 6, 3};
  Tables all(p, 3);
  write_quotas(p, layout, counts, split, 1, all.outputs);
  for (int missing = 0; missing < 5; ++missing) {
    Tables t(p, 3);
    if (missing == 0) t.outputs.quota_end = nullptr;
    if (missing == 1) t.outputs.source_prefix = nullptr;
    if (missing == 2) t.outputs.alloc = nullptr;
    if (missing == 3) t.outputs.shares = nullptr;
    if (missing == 4) t.outputs.solved = nullptr;
    write_quotas(p, layout, counts, split, 1, t.outputs);
    EXPECT_TRUE(missing == 0 || t.quota_end == all.quota_end);
    EXPECT_TRUE(missing == 1 || t.source_prefix == all.source_prefix);
    EXPECT_TRUE(missing == 2 || t.alloc == all.alloc);
    EXPECT_TRUE(missing == 3 || t.shares == all.shares);
    EXPECT_TRUE(missing == 4 || t.solved == all.solved);
  }
}

TEST(Quotas, WithoutTokensSharesAreEvenOverLiveReplicas) {
  const Load nothing[] = {0, 0, 0, 0, 0, 0};
  const Load split[] = {0, 0, 0, 0};
  Tables all(small(), 2);
  write_quotas(small(), PackedLayout(small()), nothing, split, 0, all.outputs);
  EXPECT_THAT(std::vector(all.shares.begin(), all.shares.begin() + 2), ElementsAre(0.5F, 0.5F));

  const Index map[] = {0, 1, 0, 1};
  const Placement dead = make_placement(2, 2, map, {.rank_alive = {0, 1}});
  Tables some(dead, 2);
  const Load zeros[8] = {};
  write_quotas(dead, PackedLayout(dead), zeros, split, 0, some.outputs);
  EXPECT_THAT(some.shares, ElementsAre(0, 1, 0, 1));
}

TEST(Quotas, OfDegradedBatchesDivideOwnTokensEvenly) {
  const Placement p = small();
  const Load own[] = {5, 1, 0};
  for (Index rank = 0; rank < 2; ++rank) {
    Tables t(p, 2);
    write_even_quotas(p, PackedLayout(p), own, rank, t.outputs);
    const std::int32_t first = rank == 0 ? 3 : 2;  // the remainder depends on the rank
    EXPECT_EQ(t.quota_end[0], first);
    EXPECT_EQ(t.quota_end[1], 5);
    EXPECT_THAT(t.source_prefix, ElementsAre(0, 0, 0));
    EXPECT_EQ(t.alloc[0], first);
    EXPECT_EQ(t.solved, 0);
  }
}

TEST(Quotas, RefuseBadArguments) {
  const Placement p = small();
  const PackedLayout layout(p);
  const Load counts[] = {6, 5, 0, 4, 0, 3};
  const Load split[] = {4, 5, 6, 3};
  Tables t(p, 2);
  EXPECT_THROW(write_quotas(p, layout, counts, split, 2, t.outputs), ArgumentError);
  EXPECT_THROW(write_quotas(p, layout, std::span(counts).first(5), split, 0, t.outputs),
               ArgumentError);
  EXPECT_THROW(write_quotas(p, layout, counts, std::span(split).first(3), 0, t.outputs),
               ArgumentError);
  EXPECT_THROW(write_quotas(p, PackedLayout(testing::make_workload("cube8x2", 1).placement), counts,
                            split, 0, t.outputs),
               ArgumentError);
  t.outputs.max_replicas = 1;
  EXPECT_THROW(write_quotas(p, layout, counts, split, 0, t.outputs), ArgumentError);
  const Load many[] = {Load{1} << 31, 0, 0, 0, 0, 0};
  t.outputs.max_replicas = 2;
  EXPECT_THROW(write_quotas(p, layout, many, split, 0, t.outputs), ArgumentError);
}

}  // namespace
}  // namespace lplb
