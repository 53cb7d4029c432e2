// SPDX-License-Identifier: MIT
#include "oracle/brute_force.h"

#include <gtest/gtest.h>

#include <array>
#include <numeric>

#include "support/instances.h"

// Compares the oracles with each other and with cases that were worked out by hand. Other tests
// compare the solvers with the oracles.
namespace lplb::oracle {
namespace {

using testing::Instance;
using testing::random_instance;
using testing::RandomLimits;

TEST(BruteForce, KnowsSmallCases) {
  const std::array<Index, 4> ring = {0, 1, 1, 0};
  const Placement two = make_placement(2, 2, ring);
  EXPECT_EQ(optimum(two, std::array<Load, 2>{7, 2}).tokens, 5);
  EXPECT_EQ(optimum(two, std::array<Load, 2>{0, 0}).tokens, 0);

  const std::array<Index, 3> alone = {0, 1, 2};
  EXPECT_EQ(optimum(make_placement(3, 3, alone), std::array<Load, 3>{1, 9, 4}).tokens, 9);

  // 10 tokens on speeds 1 and 3: 2 + 8 gives T = 8/3, and 3 + 7 gives T = 3.
  const std::array<Index, 2> both = {0, 0};
  const Placement uneven = make_placement(2, 1, both, {1, {1.0, 3.0}, {}});
  const Value best = optimum(uneven, std::array<Load, 1>{10});
  EXPECT_EQ(compare(uneven, best, Value{8, 1}), 0);
  EXPECT_DOUBLE_EQ(as_double(uneven, best), 8.0 / 3.0);

  const Placement dead = make_placement(2, 1, both, {1, {}, {0, 1}});
  EXPECT_EQ(optimum(dead, std::array<Load, 1>{10}).tokens, 10);
}

TEST(BruteForce, CertificatesFollowTheDefinition) {
  const std::array<Index, 6> map = {0, 1, 1, 2, 2, 0};
  const Placement ring = make_placement(3, 3, map);
  const std::array<Load, 3> load = {9, 1, 0};
  // Expert 0 is on ranks 0 and 2. If two ranks share 9 tokens, one of them has at least 5.
  EXPECT_TRUE(certifies(ring, load, {5, 0}, std::array<Index, 2>{0, 2}));
  EXPECT_FALSE(certifies(ring, load, {6, 0}, std::array<Index, 2>{0, 2}));
  EXPECT_FALSE(certifies(ring, load, {5, 0}, std::array<Index, 3>{0, 1, 2}));
  EXPECT_FALSE(certifies(ring, load, {5, 0}, std::array<Index, 1>{0}));
  EXPECT_FALSE(certifies(ring, load, {5, 0}, std::array<Index, 0>{}));
  // If rank 2 is dead, expert 0 only has rank 0.
  const Placement dead = make_placement(3, 3, map, {1, {}, {1, 1, 0}});
  EXPECT_TRUE(certifies(dead, load, {9, 0}, std::array<Index, 1>{0}));
  EXPECT_FALSE(certifies(dead, load, {10, 0}, std::array<Index, 1>{0}));
}

TEST(BruteForce, ComparesWithoutRounding) {
  const std::array<Index, 2> both = {0, 0};
  const Placement thirds = make_placement(2, 1, both, {1, {0.1, 0.3}, {}});
  // 0.3 as a double is less than three times 0.1 as a double.
  EXPECT_GT(compare(thirds, Value{3, 1}, Value{1, 0}), 0);
  EXPECT_EQ(compare(thirds, Value{0, 1}, Value{0, 0}), 0);
  const Placement far = make_placement(2, 1, both, {1, {1e-30, 1e30}, {}});
  EXPECT_THROW(compare(far, {1, 0}, {1, 1}), std::range_error);
}

TEST(BruteForce, FlowAgreesWithEnumeration) {
  RandomLimits tiny;
  tiny.max_ranks = 4;
  tiny.max_slots_per_rank = 3;
  tiny.max_load = 9;
  int compared = 0;
  for (std::uint64_t seed = 0; seed < 3000; ++seed) {
    const Instance instance = random_instance(seed, tiny);
    const auto expected = optimum_by_enumeration(instance.placement, instance.load, 20000);
    if (!expected) continue;
    ++compared;
    const Value actual = optimum(instance.placement, instance.load);
    ASSERT_EQ(compare(instance.placement, actual, *expected), 0)
        << instance.name << ": " << as_double(instance.placement, actual) << " and "
        << as_double(instance.placement, *expected);
  }
  EXPECT_GT(compared, 2500);
}

// Every optimum has a certificate, and no T above the optimum has one. All sets are tried.
TEST(BruteForce, SomeSetCertifiesTheOptimumAndNoneMore) {
  RandomLimits limits;
  limits.max_ranks = 6;
  for (std::uint64_t seed = 0; seed < 500; ++seed) {
    const Instance instance = random_instance(seed, limits);
    const Placement& placement = instance.placement;
    const Value best = optimum(placement, instance.load);
    bool proven = false;
    for (unsigned mask = 1; mask < 1u << placement.num_ranks; ++mask) {
      std::vector<Index> set;
      for (Index g = 0; g < placement.num_ranks; ++g) {
        if ((mask >> g & 1) != 0) set.push_back(g);
      }
      proven = proven || certifies(placement, instance.load, best, set);
      ASSERT_FALSE(certifies(placement, instance.load, {best.tokens + 1, best.rank}, set))
          << instance.name;
    }
    ASSERT_TRUE(proven) << instance.name;
  }
}

}  // namespace
}  // namespace lplb::oracle
