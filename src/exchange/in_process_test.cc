// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <numeric>
#include <string>
#include <thread>

#include "lplb/exchange.h"
#include "support/expect_refused.h"

namespace lplb {
namespace {

using namespace std::chrono_literals;
using ::testing::AllOf;
using ::testing::Each;
using ::testing::ElementsAre;
using testing::expect_refused;
using ::testing::HasSubstr;

/// A layout of two slots a rank. Each rank has one expert of its own. The second slot holds a
/// replica of the next rank's expert for `extra` of these, and otherwise one more expert.
PackedLayout layout_of(Index num_ranks, Index extra) {
  std::vector<Index> map;
  Index num_logical = num_ranks;
  for (Index g = 0; g < num_ranks; ++g) {
    map.push_back(g);
    const Index from = (g + 1) % num_ranks;
    map.push_back(from < extra ? from : num_logical++);
  }
  return PackedLayout(make_placement(num_ranks, num_logical, map));
}

struct Gathered {
  ExchangeStatus status = ExchangeStatus::kTimedOut;
  std::vector<Load> all;
  std::string error;  ///< what an ExchangeError said
};

/// Calls all_gather() once, with all counts of this rank set to `value`.
Gathered gather(Exchange& exchange, const PackedLayout& layout, Load value) {
  Gathered result;
  result.all.assign(layout.size() * layout.num_ranks, -1);
  try {
    result.status =
        exchange.all_gather(layout, std::vector<Load>(layout.size(), value), result.all);
  } catch (const ExchangeError& e) {
    result.error = e.what();
  }
  return result;
}

void on_threads(Index count, const std::function<void(Index)>& body) {
  std::vector<std::thread> threads;
  for (Index i = 0; i < count; ++i) threads.emplace_back(body, i);
  for (std::thread& t : threads) t.join();
}

std::vector<std::shared_ptr<Exchange>> members(InProcessGroup& group, Index count) {
  std::vector<std::shared_ptr<Exchange>> all;
  for (Index i = 0; i < count; ++i) all.push_back(group.member(i));
  return all;
}

TEST(InProcessGroup, GathersManyBatchesInOrder) {
  constexpr Index kRanks = 6;
  InProcessGroup group(kRanks);
  const PackedLayout small = layout_of(kRanks, 2);
  const PackedLayout large = layout_of(kRanks, 6);
  on_threads(kRanks, [&](Index rank) {
    // Each thread makes its own member. Layouts change between batches, so that slots grow.
    const auto exchange = group.member(rank);
    for (Load batch = 0; batch < 400; ++batch) {
      const PackedLayout& layout = batch % 50 < 25 ? small : large;
      const Gathered g = gather(*exchange, layout, batch * 100 + rank);
      ASSERT_EQ(g.error, "");
      ASSERT_EQ(g.status, ExchangeStatus::kComplete);
      for (std::size_t i = 0; i < g.all.size(); ++i) {
        ASSERT_EQ(g.all[i], batch * 100 + static_cast<Load>(i / layout.size()));
      }
    }
  });
}

TEST(InProcessGroup, ABatchThatWasCompleteStaysSoWhenARankLeavesAtOnce) {
  for (int repeat = 0; repeat < 200; ++repeat) {
    InProcessGroup group(3);
    const PackedLayout layout = layout_of(3, 3);
    auto ranks = members(group, 3);
    on_threads(3, [&](Index rank) {
      const auto exchange = std::move(ranks[rank]);
      EXPECT_EQ(gather(*exchange, layout, rank).status, ExchangeStatus::kComplete);
    });
  }
}

TEST(InProcessGroup, OneRankIsItsOwnGroup) {
  InProcessGroup group(1);
  const std::vector<Index> map = {0, 1};
  const PackedLayout layout(make_placement(1, 2, map));
  const Gathered g = gather(*group.member(0), layout, 5);
  EXPECT_EQ(g.status, ExchangeStatus::kComplete);
  EXPECT_THAT(g.all, ElementsAre(5));
}

TEST(InProcessGroup, ALatePeerTimesTheBatchOutForAllAndIsNeverMixedIn) {
  constexpr Index kRanks = 3;
  InProcessGroup group(kRanks, 250ms);
  const PackedLayout layout = layout_of(kRanks, 3);
  auto ranks = members(group, kRanks);
  // Ranks 0 and 1 try two batches without rank 2.
  on_threads(2, [&](Index rank) {
    for (Load batch = 1; batch <= 2; ++batch) {
      EXPECT_EQ(gather(*ranks[rank], layout, 10 * batch).status, ExchangeStatus::kTimedOut);
    }
  });
  // Rank 2 posts these two batches late. Both are over, so it does not wait.
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(gather(*ranks[2], layout, 10).status, ExchangeStatus::kTimedOut);
  EXPECT_EQ(gather(*ranks[2], layout, 20).status, ExchangeStatus::kTimedOut);
  EXPECT_LT(std::chrono::steady_clock::now() - start, 250ms);
  // All ranks take part in the third batch.
  on_threads(kRanks, [&](Index rank) {
    const Gathered g = gather(*ranks[rank], layout, 30);
    EXPECT_EQ(g.status, ExchangeStatus::kComplete);
    EXPECT_THAT(g.all, Each(30));
  });
}

TEST(InProcessGroup, WhoGivesUpWakesThoseWhoCameAfter) {
  constexpr auto kDeadline = 600ms;
  InProcessGroup group(3, kDeadline);
  const PackedLayout layout = layout_of(3, 3);
  auto ranks = members(group, 3);
  on_threads(2, [&](Index rank) {
    if (rank == 1) std::this_thread::sleep_for(kDeadline / 2);
    const auto start = std::chrono::steady_clock::now();
    EXPECT_EQ(gather(*ranks[rank], layout, 0).status, ExchangeStatus::kTimedOut);
    if (rank == 1) {
      EXPECT_LT(std::chrono::steady_clock::now() - start, kDeadline);
    }
  });
}

// Ranks are late at random. A batch has the same outcome for all, and a complete one holds only the
// counts of that batch.
TEST(InProcessGroup, EveryBatchHasOneOutcome) {
  constexpr Index kRanks = 4;
  constexpr Load kBatches = 60;
  InProcessGroup group(kRanks, 2ms);
  const PackedLayout layout = layout_of(kRanks, 4);
  auto ranks = members(group, kRanks);
  std::vector<std::vector<ExchangeStatus>> outcome(kRanks);
  on_threads(kRanks, [&](Index rank) {
    for (Load batch = 0; batch < kBatches; ++batch) {
      if ((batch * 7 + rank * 3) % 20 == 0) std::this_thread::sleep_for(5ms);
      const Gathered g = gather(*ranks[rank], layout, batch);
      ASSERT_EQ(g.error, "");
      if (g.status == ExchangeStatus::kComplete) {
        ASSERT_THAT(g.all, Each(batch));
      }
      outcome[rank].push_back(g.status);
    }
  });
  for (Index rank = 1; rank < kRanks; ++rank) EXPECT_EQ(outcome[rank], outcome[0]) << rank;
  EXPECT_THAT(outcome[0], ::testing::Contains(ExchangeStatus::kTimedOut));
}

TEST(InProcessGroup, DifferentLayoutsEndTheGroupForAll) {
  InProcessGroup group(3);
  auto ranks = members(group, 3);
  std::vector<std::string> errors(3);
  on_threads(3, [&](Index rank) {
    errors[rank] = gather(*ranks[rank], layout_of(3, rank == 1 ? 1 : 2), 0).error;
  });
  EXPECT_THAT(errors, Each(AllOf(HasSubstr("the ranks' placements differ: rank "),
                                 HasSubstr("exchanges 5 counts, 2 of replicated"),
                                 HasSubstr("rank 1 exchanges 4 counts, 1 of"))))
      << errors[0];
}

TEST(InProcessGroup, LayoutsOfOneSizeAreToldApart) {
  InProcessGroup group(2);
  auto ranks = members(group, 2);
  const std::vector<Index> a = {0, 1, 1, 2};
  const std::vector<Index> b = {0, 1, 0, 2};
  std::vector<std::string> errors(2);
  on_threads(2, [&](Index rank) {
    const PackedLayout layout(make_placement(2, 3, rank == 0 ? a : b));
    errors[rank] = gather(*ranks[rank], layout, 0).error;
  });
  EXPECT_THAT(errors, Each(HasSubstr("not the same ones")));
}

/// The errors that ranks 0 and 1 of three get if `act` happens while they wait for rank 2.
std::vector<std::string> told_while_waiting(
    const std::function<void(InProcessGroup&, std::shared_ptr<Exchange>&)>& act) {
  InProcessGroup group(3, 60s);
  const PackedLayout layout = layout_of(3, 3);
  auto ranks = members(group, 3);
  std::vector<std::string> errors(3);
  on_threads(3, [&](Index rank) {
    if (rank == 2) {
      std::this_thread::sleep_for(20ms);
      act(group, ranks[2]);
      errors[2] = ranks[2] == nullptr ? "" : gather(*ranks[2], layout, 0).error;
    } else {
      errors[rank] = gather(*ranks[rank], layout, 0).error;
    }
  });
  return errors;
}

TEST(InProcessGroup, CloseWakesTheOthers) {
  EXPECT_THAT(told_while_waiting([](InProcessGroup& group, auto&) { group.close(); }),
              Each("the group is closed"));
}

TEST(InProcessGroup, TheEndOfAMemberWakesTheOthers) {
  EXPECT_THAT(told_while_waiting([](InProcessGroup&, auto& mine) { mine.reset(); }),
              ElementsAre("the group is closed: rank 2 has left it",
                          "the group is closed: rank 2 has left it", ""));
}

TEST(InProcessGroup, MembersOutliveTheGroupObject) {
  const PackedLayout layout = layout_of(2, 2);
  std::vector<std::shared_ptr<Exchange>> ranks;
  {
    InProcessGroup group(2);
    InProcessGroup moved = std::move(group);
    ranks = members(moved, 2);
  }
  on_threads(2, [&](Index rank) {
    EXPECT_EQ(gather(*ranks[rank], layout, 1).status, ExchangeStatus::kComplete);
  });
}

TEST(InProcessGroup, RefusesBadInput) {
  expect_refused([] { InProcessGroup(0); }, "num_ranks: 0 is not between 1 and 1024");
  expect_refused([] { InProcessGroup(2, 0us); }, "deadline: 0 us is not > 0");
  InProcessGroup group(2, std::chrono::microseconds::max());
  expect_refused([&] { group.member(2); }, "rank: 2 is not between 0 and 1");
  const auto member = group.member(0);
  expect_refused([&] { group.member(0); }, "rank: 0 has its member already");
  // A call with wrong arguments does not count as a batch: the group goes on.
  std::vector<Load> all(3);
  expect_refused([&] { member->all_gather(layout_of(2, 2), std::vector<Load>(4), all); },
                 "all: has 3 entries, expected num_ranks * 4 (8)");
  const auto other = group.member(1);
  on_threads(2, [&](Index rank) {
    EXPECT_EQ(gather(rank == 0 ? *member : *other, layout_of(2, 2), 1).status,
              ExchangeStatus::kComplete);
  });
}

}  // namespace
}  // namespace lplb
