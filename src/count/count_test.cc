// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <random>
#include <string>
#include <vector>

#include "lplb/mapping.h"
#include "support/backends.h"

namespace lplb {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;

template <class IdType, Backend kBackend>
struct Case {
  using Id = IdType;
  static constexpr Backend backend = kBackend;
};

struct CaseName {
  template <class Case>
  static std::string GetName(int) {
    return std::string(sizeof(typename Case::Id) == 4 ? "Int32" : "Int64") +
           (Case::backend == Backend::kCuda ? "Cuda" : "Cpu");
  }
};

template <class Case>
class Typed : public ::testing::Test {
 protected:
  static Backend backend() { return Case::backend; }
};
template <class Case>
class Count : public testing::OnBackend<Typed<Case>> {};
using Cases =
    ::testing::Types<Case<std::int32_t, Backend::kCpu>, Case<std::int64_t, Backend::kCpu>,
                     Case<std::int32_t, Backend::kCuda>, Case<std::int64_t, Backend::kCuda>>;
TYPED_TEST_SUITE(Count, Cases, CaseName);

TYPED_TEST(Count, CountsEachExpertAndOverwritesWhatWasThere) {
  const std::vector<typename TypeParam::Id> topk = {2, 0, 2, 2, 3, 0};
  std::vector<Load> load = {9, 9, 9, 9};
  const CountStatus status = count_tokens(topk, load, this->backend());
  EXPECT_THAT(load, ElementsAre(2, 0, 3, 1));
  EXPECT_EQ(status.counted, 6);
  EXPECT_EQ(status.dropped, 0);
  EXPECT_EQ(status.out_of_range, 0);
}

TYPED_TEST(Count, TellsDroppedFromBadIds) {
  using Limits = std::numeric_limits<typename TypeParam::Id>;
  const std::vector<typename TypeParam::Id> topk = {-1, 0, 1, 2, -2, Limits::max(), Limits::min(),
                                                    -1, 1};
  std::vector<Load> load(2);
  const CountStatus status = count_tokens(topk, load, this->backend());
  EXPECT_THAT(load, ElementsAre(1, 2));
  EXPECT_EQ(status.counted, 3);
  EXPECT_EQ(status.dropped, 2);
  EXPECT_EQ(status.out_of_range, 4);
}

TYPED_TEST(Count, TakesNoTokens) {
  std::vector<Load> load = {4, 4};
  const CountStatus status =
      count_tokens(std::span<const typename TypeParam::Id>{}, load, this->backend());
  EXPECT_THAT(load, Each(0));
  EXPECT_EQ(status.counted + status.dropped + status.out_of_range, 0);
}

TYPED_TEST(Count, RefusesAnImpossibleNumberOfExperts) {
  const std::vector<typename TypeParam::Id> topk = {0};
  std::vector<Load> none;
  EXPECT_THROW(count_tokens(topk, none, this->backend()), ArgumentError);
  std::vector<Load> many(kMaxPhysical + 1);
  EXPECT_THROW(count_tokens(topk, many, this->backend()), ArgumentError);
}

TYPED_TEST(Count, RunsWhereItIsTold) {
  const std::vector<typename TypeParam::Id> topk = {0, 1, 1};
  std::vector<Load> load(2);
  this->expect_it_runs_there([&] { count_tokens(topk, load, this->backend()); });
  EXPECT_THAT(load, ElementsAre(1, 2));
}

// The sizes are those of a warp and a block of the kernel, one less and one more, and more than all
// blocks have threads. The ids do not begin at the start of an allocation.
TYPED_TEST(Count, TakesAnyNumberOfEntriesFromAnyAddress) {
  std::mt19937 random(4);
  std::vector<typename TypeParam::Id> all(100003);
  for (auto& id : all) id = static_cast<typename TypeParam::Id>(random() % 310) - 5;
  for (const std::size_t count : {1, 31, 32, 33, 511, 512, 513, 100000}) {
    const auto topk = std::span<const typename TypeParam::Id>(all).subspan(3, count);
    std::vector<Load> expected(300), load(300);
    const CountStatus want = count_tokens(topk, expected);
    const CountStatus got = count_tokens(topk, load, this->backend());
    EXPECT_EQ(load, expected) << count << " entries";
    EXPECT_EQ(got.counted, want.counted);
    EXPECT_EQ(got.dropped, want.dropped);
    EXPECT_EQ(got.out_of_range, want.out_of_range);
  }
}

TYPED_TEST(Count, TakesTheMostExperts) {
  const std::vector<typename TypeParam::Id> topk = {4095, 4096, 4095, 0};
  std::vector<Load> load(kMaxPhysical);
  EXPECT_EQ(count_tokens(topk, load, this->backend()).out_of_range, 1);
  EXPECT_EQ(load[4095], 2);
  EXPECT_EQ(load[0], 1);
}

class CountWidths : public testing::BackendTest {};
LPLB_ON_ALL_BACKENDS(CountWidths);

TEST_P(CountWidths, Agree) {
  std::mt19937 random(3);
  std::uniform_int_distribution<std::int32_t> id(-3, 70);
  std::vector<std::int32_t> narrow(5000);
  for (std::int32_t& e : narrow) e = id(random);
  const std::vector<std::int64_t> wide(narrow.begin(), narrow.end());
  std::vector<Load> a(64), b(64);
  const CountStatus sa = count_tokens(narrow, a, GetParam());
  const CountStatus sb = count_tokens(wide, b, GetParam());
  EXPECT_EQ(a, b);
  EXPECT_EQ(sa.counted, sb.counted);
  EXPECT_EQ(sa.dropped, sb.dropped);
  EXPECT_EQ(sa.out_of_range, sb.out_of_range);
  EXPECT_EQ(sa.counted + sa.dropped + sa.out_of_range, 5000);
}

// An id that is a valid expert once it is cut to 32 bits is still bad input.
TEST_P(CountWidths, AreNotNarrowed) {
  const std::vector<std::int64_t> topk = {std::int64_t{1} << 32, (std::int64_t{1} << 32) + 1};
  std::vector<Load> load(2);
  EXPECT_EQ(count_tokens(topk, load, GetParam()).out_of_range, 2);
  EXPECT_THAT(load, Each(0));
}

}  // namespace
}  // namespace lplb
