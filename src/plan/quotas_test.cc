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
        replicas(quota_end.size(), -9),
        shares(quota_end.size(), -9) {
    outputs = {max_replicas,  quota_end.data(), source_prefix.data(), alloc.data(),
               shares.data(), &solved,          replicas.data()};
  }
  std::vector<std::int32_t> quota_end, source_prefix, alloc, replicas;
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
  EXPECT_THAT(t.replicas, ElementsAre(0, 2, -1, 1, -1, -1, 3, -1, -1));
  EXPECT_EQ(t.solved, 1);
}

TEST(Quotas, EachTableMayBeMissing) {
  const Placement p = small();
  const PackedLayout layout(p);
  const Load counts[] = {6, 5, 0, 4, 0, 3};
  const Load split[] = {4, 5, 6, 3};
  Tables all(p, 3);
  write_quotas(p, layout, counts, split, 1, all.outputs);
  for (int missing = 0; missing < 6; ++missing) {
    Tables t(p, 3);
    if (missing == 0) t.outputs.quota_end = nullptr;
    if (missing == 1) t.outputs.source_prefix = nullptr;
    if (missing == 2) t.outputs.alloc = nullptr;
    if (missing == 3) t.outputs.shares = nullptr;
    if (missing == 4) t.outputs.solved = nullptr;
    if (missing == 5) t.outputs.replicas = nullptr;
    write_quotas(p, layout, counts, split, 1, t.outputs);
    EXPECT_TRUE(missing == 0 || t.quota_end == all.quota_end);
    EXPECT_TRUE(missing == 1 || t.source_prefix == all.source_prefix);
    EXPECT_TRUE(missing == 2 || t.alloc == all.alloc);
    EXPECT_TRUE(missing == 3 || t.shares == all.shares);
    EXPECT_TRUE(missing == 4 || t.solved == all.solved);
    EXPECT_TRUE(missing == 5 || t.replicas == all.replicas);
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

/// Three ranks of two main slots and a dynamic one. Expert 0 is copied to rank 2, expert 3 to rank
/// 0; rank 1's dynamic slot is unused.
Replication small_copies() {
  Replication copies;
  copies.slot_expert = {3, -1, 0};
  //                      0  1  3   2  3  -   4  5  0
  copies.physical_load = {6, 2, 1, 3, 5, 0, 2, 1, 4};
  return copies;
}

TEST(QuotasWithCopies, AreTheSplit) {
  const Index map[] = {0, 1, 2, 3, 4, 5};
  const Placement p = make_placement(3, 6, map);
  const PackedLayout layout(p, Singles::kEach);
  const Load counts[] = {7, 0, 1, 2, 0, 1, 1, 2, 2, 4, 0, 0, 2, 0, 0, 0, 2, 0};
  Tables t(p, 3);
  write_quotas(p, layout, counts, small_copies(), 1, t.outputs);
  EXPECT_THAT(t.replicas,
              ElementsAre(0, 8, -1, 1, -1, -1, 3, -1, -1, 2, 4, -1, 6, -1, -1, 7, -1, -1));
  EXPECT_THAT(t.quota_end, ElementsAre(6, 10, 10, 2, 2, 2, 3, 3, 3, 1, 6, 6, 2, 2, 2, 1, 1, 1));
  EXPECT_THAT(t.source_prefix, ElementsAre(7, 0, 1, 2, 0, 1));
  EXPECT_THAT(t.alloc, ElementsAre(6, 2, 0, 1, 0, 0, 0, 0, 3, 5, 0, 0, 4, 0, 0, 0, 2, 1));
  EXPECT_EQ(t.shares[0], 0.6F);
  EXPECT_EQ(t.shares[3], 1);
  EXPECT_EQ(t.solved, 1);
}

TEST(QuotasWithCopies, OfDegradedBatchesLeaveCopiesOut) {
  const Index map[] = {0, 1, 2, 3, 4, 5};
  const Placement p = make_placement(3, 6, map);
  const PackedLayout layout(p, Singles::kEach);
  const Load own[] = {1, 2, 2, 4, 0, 0};
  Tables t(p, 3);
  write_even_quotas(p, layout, own, small_copies(), 1, t.outputs);
  EXPECT_THAT(t.replicas,
              ElementsAre(0, -1, -1, 1, -1, -1, 3, -1, -1, 4, -1, -1, 6, -1, -1, 7, -1, -1));
  EXPECT_THAT(t.quota_end, ElementsAre(1, 1, 1, 2, 2, 2, 2, 2, 2, 4, 4, 4, 0, 0, 0, 0, 0, 0));
  EXPECT_THAT(t.source_prefix, ElementsAre(0, 0, 0, 0, 0, 0));
  EXPECT_EQ(t.solved, 0);
}

TEST(QuotasWithCopies, RefuseBadArguments) {
  const Index map[] = {0, 1, 2, 3, 4, 5};
  const Placement p = make_placement(3, 6, map);
  const PackedLayout layout(p, Singles::kEach);
  const std::vector<Load> counts(18, 0);
  Tables t(p, 3);
  const auto write = [&](const PackedLayout& by, std::span<const Load> all, const Replication& r) {
    write_quotas(p, by, all, r, 0, t.outputs);
  };
  EXPECT_THROW(write(PackedLayout(p), counts, small_copies()), ArgumentError);
  EXPECT_THROW(write(layout, std::span(counts).first(17), small_copies()), ArgumentError);
  Replication other = small_copies();
  other.slot_expert.pop_back();
  EXPECT_THROW(write(layout, counts, other), ArgumentError);
  EXPECT_THROW(write(layout, counts, {}), ArgumentError);
  t.outputs.max_replicas = 2;  // a copy may come to each of the other ranks
  EXPECT_THROW(write(layout, counts, small_copies()), ArgumentError);
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
