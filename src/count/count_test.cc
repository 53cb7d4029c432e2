// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <random>
#include <vector>

#include "lplb/mapping.h"

namespace lplb {
namespace {

using testing::Each;
using testing::ElementsAre;

template <class Id>
class Count : public testing::Test {};
using IdTypes = testing::Types<std::int32_t, std::int64_t>;
TYPED_TEST_SUITE(Count, IdTypes);

TYPED_TEST(Count, CountsEachExpertAndOverwritesWhatWasThere) {
  const std::vector<TypeParam> topk = {2, 0, 2, 2, 3, 0};
  std::vector<Load> load = {9, 9, 9, 9};
  const CountStatus status = count_tokens(topk, load);
  EXPECT_THAT(load, ElementsAre(2, 0, 3, 1));
  EXPECT_EQ(status.counted, 6);
  EXPECT_EQ(status.dropped, 0);
  EXPECT_EQ(status.out_of_range, 0);
}

TYPED_TEST(Count, TellsDroppedFromBadIds) {
  using Limits = std::numeric_limits<TypeParam>;
  const std::vector<TypeParam> topk = {-1, 0, 1, 2, -2, Limits::max(), Limits::min(), -1, 1};
  std::vector<Load> load(2);
  const CountStatus status = count_tokens(topk, load);
  EXPECT_THAT(load, ElementsAre(1, 2));
  EXPECT_EQ(status.counted, 3);
  EXPECT_EQ(status.dropped, 2);
  EXPECT_EQ(status.out_of_range, 4);
}

TYPED_TEST(Count, TakesNoTokens) {
  std::vector<Load> load = {4, 4};
  const CountStatus status = count_tokens(std::span<const TypeParam>{}, load);
  EXPECT_THAT(load, Each(0));
  EXPECT_EQ(status.counted + status.dropped + status.out_of_range, 0);
}

TYPED_TEST(Count, RefusesAnImpossibleNumberOfExperts) {
  const std::vector<TypeParam> topk = {0};
  std::vector<Load> none;
  EXPECT_THROW(count_tokens(topk, none), ArgumentError);
  std::vector<Load> many(kMaxPhysical + 1);
  EXPECT_THROW(count_tokens(topk, many), ArgumentError);
}

TEST(Count, WidthsAgree) {
  std::mt19937 random(3);
  std::uniform_int_distribution<std::int32_t> id(-3, 70);
  std::vector<std::int32_t> narrow(5000);
  for (std::int32_t& e : narrow) e = id(random);
  const std::vector<std::int64_t> wide(narrow.begin(), narrow.end());
  std::vector<Load> a(64), b(64);
  const CountStatus sa = count_tokens(narrow, a);
  const CountStatus sb = count_tokens(wide, b);
  EXPECT_EQ(a, b);
  EXPECT_EQ(sa.counted, sb.counted);
  EXPECT_EQ(sa.dropped, sb.dropped);
  EXPECT_EQ(sa.out_of_range, sb.out_of_range);
  EXPECT_EQ(sa.counted + sa.dropped + sa.out_of_range, 5000);
}

// An id that is a valid expert once it is cut to 32 bits is still bad input.
TEST(Count, DoesNotNarrowIds) {
  const std::vector<std::int64_t> topk = {std::int64_t{1} << 32, (std::int64_t{1} << 32) + 1};
  std::vector<Load> load(2);
  EXPECT_EQ(count_tokens(topk, load).out_of_range, 2);
  EXPECT_THAT(load, Each(0));
}

}  // namespace
}  // namespace lplb
