// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cstring>
#include <thread>
#include <vector>

#include "lplb/weight_exchange.h"
#include "support/expect_refused.h"

// Weights of copies, between ranks that are threads.
namespace lplb {
namespace {

using namespace std::chrono_literals;
using ::testing::Each;
using ::testing::ElementsAre;
using testing::expect_refused;
using ::testing::HasSubstr;

/// Two tensors an expert: 3 integers and a byte.
struct Expert {
  int first[3] = {-1, -1, -1};
  char second = -1;
  std::vector<float> gradient = std::vector<float>(2, 0);

  void set(int value) {
    std::fill(std::begin(first), std::end(first), value);
    second = static_cast<char>(value);
  }
  bool is(int value) const {
    return first[0] == value && first[1] == value && first[2] == value && second == value;
  }
};

/// A rank's memory. Main slots hold the number of their expert.
struct Memory {
  Memory(const Placement& p, Index rank, Index slots)
      : main(static_cast<std::size_t>(p.slots_per_rank())),
        dynamic(static_cast<std::size_t>(slots)) {
    for (std::size_t i = 0; i < main.size(); ++i) {
      main[i].set(p.physical_to_logical[static_cast<std::size_t>(rank) * main.size() + i]);
    }
  }

  WeightBuffers buffers() {
    WeightBuffers out;
    for (Expert& e : main) {
      out.main.push_back({e.first, &e.second});
      out.main_gradients.push_back(e.gradient.data());
    }
    for (Expert& e : dynamic) {
      out.dynamic.push_back({e.first, &e.second});
      out.dynamic_gradients.push_back(e.gradient.data());
    }
    return out;
  }

  std::vector<Expert> main, dynamic;
};

const WeightLayout kLayout{.tensor_bytes = {3 * sizeof(int), 1}, .num_gradients = 2};

/// Three ranks with two experts each and one dynamic slot.
struct ThreeRanks {
  explicit ThreeRanks(std::chrono::microseconds deadline = 10s, Index slots = 1)
      : group(placement, slots, kLayout, deadline) {
    memory.reserve(3);
    for (Index g = 0; g < 3; ++g) {
      memory.emplace_back(placement, g, slots);
      members.push_back(group.member(g, memory.back().buffers()));
    }
  }

  /// Calls call(rank) on a thread of each rank.
  template <class Call>
  static void on_ranks(const Call& call) {
    std::vector<std::thread> threads;
    for (Index g = 0; g < 3; ++g) threads.emplace_back([&call, g] { call(g); });
    for (std::thread& thread : threads) thread.join();
  }

  std::vector<ExchangeStatus> fetch(const Replication& plan) {
    std::vector<ExchangeStatus> status(3);
    on_ranks([&](Index g) { status[g] = members[g]->fetch(plan); });
    return status;
  }

  Placement placement = make_placement(3, 6, std::vector<Index>{0, 1, 2, 3, 4, 5});
  InProcessWeights group;
  std::vector<Memory> memory;
  std::vector<std::unique_ptr<WeightExchange>> members;
};

Replication plan_of(std::vector<Index> experts, std::vector<Index> sources) {
  Replication plan;
  plan.slot_expert = std::move(experts);
  plan.slot_source = std::move(sources);
  return plan;
}

constexpr auto kAll = ExchangeStatus::kComplete;
constexpr auto kLost = ExchangeStatus::kTimedOut;

TEST(Weights, BringWhatThePlanSaysAndSkipWhatIsThere) {
  ThreeRanks ranks;
  EXPECT_THAT(ranks.fetch(plan_of({3, -1, 1}, {1, -1, 0})), Each(kAll));
  EXPECT_TRUE(ranks.memory[0].dynamic[0].is(3));
  EXPECT_TRUE(ranks.memory[1].dynamic[0].is(-1));
  EXPECT_TRUE(ranks.memory[2].dynamic[0].is(1));
  EXPECT_EQ(ranks.members[0]->stats().copied, 1);
  EXPECT_EQ(ranks.members[0]->stats().bytes, 13);

  // Rank 1's slot gets its first expert, rank 0's still holds expert 3, rank 2's is not used.
  ranks.memory[0].dynamic[0].second = 77;  // a sign that nothing is written
  EXPECT_THAT(ranks.fetch(plan_of({3, 0, -1}, {1, 0, -1})), Each(kAll));
  EXPECT_EQ(ranks.memory[0].dynamic[0].second, 77);
  EXPECT_TRUE(ranks.memory[1].dynamic[0].is(0));
  EXPECT_EQ(ranks.members[0]->stats().copied, 1);
  EXPECT_EQ(ranks.members[0]->stats().skipped, 1);
  // Rank 2's slot was not used in between, and holds expert 1 still.
  EXPECT_THAT(ranks.fetch(plan_of({-1, -1, 1}, {-1, -1, 0})), Each(kAll));
  EXPECT_EQ(ranks.members[2]->stats().skipped, 1);
}

TEST(Weights, NewVersionsTravel) {
  ThreeRanks ranks;
  const Replication plan = plan_of({3, 1, 1}, {1, 0, 0});
  ranks.fetch(plan);
  const std::vector<Index> second = {1};
  ranks.members[0]->update(second, [&] { ranks.memory[0].main[1].set(50); });
  EXPECT_THAT(ranks.fetch(plan), Each(kAll));
  EXPECT_TRUE(ranks.memory[1].dynamic[0].is(50));
  EXPECT_TRUE(ranks.memory[2].dynamic[0].is(50));
  EXPECT_EQ(ranks.members[0]->stats().skipped, 1);  // expert 3 has not changed
  EXPECT_EQ(ranks.members[1]->stats().copied, 2);

  const auto broken = [&] {
    ranks.memory[0].main[1].set(51);
    throw std::runtime_error("broken");
  };
  EXPECT_THROW(ranks.members[0]->update(second, broken), std::runtime_error);
  ranks.fetch(plan);
  EXPECT_TRUE(ranks.memory[1].dynamic[0].is(51));
}

TEST(Weights, AnotherSourceIsAnotherVersion) {
  const Placement p = make_placement(3, 2, std::vector<Index>{0, 1, 0, 1, 1, 1});
  InProcessWeights group(p, 1, kLayout);
  std::vector<Memory> memory;
  std::vector<std::unique_ptr<WeightExchange>> members;
  memory.reserve(3);
  for (Index g = 0; g < 3; ++g)
    members.push_back(group.member(g, memory.emplace_back(p, g, 1).buffers()));
  memory[1].main[0].set(40);  // tells the sources apart
  for (const Index source : {0, 1}) {
    ThreeRanks::on_ranks([&](Index g) {
      members[g]->fetch(plan_of({-1, -1, 0}, {-1, -1, source}));
    });
    EXPECT_TRUE(memory[2].dynamic[0].is(source == 0 ? 0 : 40));
  }
}

TEST(Weights, GradientsComeBackInTheOrderOfRanks) {
  ThreeRanks ranks(10s, 2);
  // Expert 1 of rank 0 has copies on ranks 1 and 2, expert 2 of rank 1 one on rank 0.
  const Replication plan = plan_of({2, -1, 1, -1, 5, 1}, {1, -1, 0, -1, 2, 0});
  // 2^24 + 1 is no float: the sum depends on its order.
  const float large = 16777216;
  ranks.memory[0].main[1].gradient = {large, 1};
  ranks.memory[1].dynamic[0].gradient = {1, 2};
  ranks.memory[2].dynamic[1].gradient = {-large, 4};
  ranks.memory[0].dynamic[0].gradient = {8, 16};
  ranks.memory[2].dynamic[0].gradient = {100, 100};  // a copy of expert 5 on its own rank
  ThreeRanks::on_ranks([&](Index g) {
    EXPECT_EQ(ranks.members[g]->fetch(plan), kAll);
    EXPECT_EQ(ranks.members[g]->reduce_gradients(), kAll);
  });
  EXPECT_THAT(ranks.memory[0].main[1].gradient, ElementsAre(large + 1 - large, 7));
  EXPECT_THAT(ranks.memory[1].main[0].gradient, ElementsAre(8, 16));
  EXPECT_THAT(ranks.memory[0].main[0].gradient, Each(0));
  EXPECT_THAT(ranks.memory[1].main[1].gradient, Each(0));
  EXPECT_THAT(ranks.memory[2].main[1].gradient, ElementsAre(100, 100));
}

TEST(Weights, BFloat16IsSummedInFloat32AndRoundedOnce) {
  const auto half = [](float value) {
    return static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(value) >> 16);
  };
  const Placement p = make_placement(3, 3, std::vector<Index>{0, 1, 2});
  InProcessWeights group(p, 1, {{1}, 3, GradientType::kBFloat16});
  char weight[6] = {};
  // 256 has a step of 2 in bfloat16: 256 + 0.75 + 0.75 rounds to 258, each by itself to 256.
  std::uint16_t main[3][3] = {{half(256), half(256), half(1)}};
  std::uint16_t copy[3][3] = {
      {}, {half(0.75), half(0.5), half(1)}, {half(0.75), half(0.5), half(std::nanf(""))}};
  std::vector<std::unique_ptr<WeightExchange>> members;
  for (Index g = 0; g < 3; ++g) {
    members.push_back(
        group.member(g, {{{&weight[2 * g]}}, {{&weight[2 * g + 1]}}, {main[g]}, {copy[g]}}));
  }
  ThreeRanks::on_ranks([&](Index g) {
    EXPECT_EQ(members[g]->fetch(plan_of({-1, 0, 0}, {-1, 0, 0})), kAll);
    EXPECT_EQ(members[g]->reduce_gradients(), kAll);
  });
  EXPECT_EQ(main[0][0], half(258));
  EXPECT_EQ(main[0][1], half(256));  // 257 is a tie: to the even one
  EXPECT_EQ(main[0][2] & 0x7FC0, 0x7FC0);
}

/// A rank that does not come costs the others a batch within the deadline, and nothing that is
/// half-copied counts as held.
TEST(Weights, ALateRankCostsABatch) {
  ThreeRanks ranks(500ms);
  const Replication plan = plan_of({3, 1, 1}, {1, 0, 0});
  ThreeRanks::on_ranks([&](Index g) {
    if (g == 2) return;
    EXPECT_EQ(ranks.members[g]->fetch(plan), kLost);
    EXPECT_EQ(ranks.members[g]->stats().timed_out, 1);
    // The batch had no copies, so no gradients come back. Rank 2 is not there for these either.
    EXPECT_EQ(ranks.members[g]->reduce_gradients(), kLost);
  });
  EXPECT_TRUE(ranks.memory[0].dynamic[0].is(-1));
  // It comes: the batch is over for it, at once. Then all are together again.
  EXPECT_EQ(ranks.members[2]->fetch(plan), kLost);
  EXPECT_EQ(ranks.members[2]->reduce_gradients(), kLost);
  EXPECT_THAT(ranks.fetch(plan), Each(kAll));
  EXPECT_TRUE(ranks.memory[0].dynamic[0].is(3));
  EXPECT_TRUE(ranks.memory[2].dynamic[0].is(1));
}

TEST(Weights, GradientsOfALostFetchAreNotAdded) {
  ThreeRanks ranks(500ms);
  const Replication plan = plan_of({-1, 1, -1}, {-1, 0, -1});
  EXPECT_THAT(ranks.fetch(plan), Each(kAll));
  ranks.memory[1].dynamic[0].gradient = {1, 1};
  EXPECT_EQ(ranks.members[0]->fetch(plan), kLost);
  EXPECT_EQ(ranks.members[1]->fetch(plan), kLost);
  EXPECT_EQ(ranks.members[2]->fetch(plan), kLost);
  ThreeRanks::on_ranks([&](Index g) { EXPECT_EQ(ranks.members[g]->reduce_gradients(), kAll); });
  EXPECT_THAT(ranks.memory[0].main[1].gradient, Each(0));
}

TEST(Weights, ARankThatLeavesEndsTheGroup) {
  ThreeRanks ranks;
  const Replication plan = plan_of({3, 1, 1}, {1, 0, 0});
  ThreeRanks::on_ranks([&](Index g) {
    if (g == 1) {
      ranks.members[1].reset();
      return;
    }
    EXPECT_THROW(ranks.members[g]->fetch(plan), ExchangeError);
  });
  EXPECT_TRUE(ranks.memory[0].dynamic[0].is(-1));
}

TEST(Weights, PlansThatDifferAreFound) {
  ThreeRanks ranks;
  ThreeRanks::on_ranks([&](Index g) {
    const Replication plan = plan_of({g == 1 ? 3 : 2, -1, -1}, {1, -1, -1});
    EXPECT_THROW(ranks.members[g]->fetch(plan), ExchangeError);
  });
  EXPECT_TRUE(ranks.memory[0].dynamic[0].is(-1));
}

/// Owners update their weights between batches, as fast as they can, and every copy is whole.
TEST(Weights, CopiesAreWhole) {
  ThreeRanks ranks;
  std::vector<Replication> plans = {plan_of({3, 1, 1}, {1, 0, 0}), plan_of({4, 4, 2}, {2, 2, 1}),
                                    plan_of({-1, 5, 0}, {-1, 2, 0})};
  constexpr int kBatches = 300;
  ThreeRanks::on_ranks([&](Index g) {
    Memory& own = ranks.memory[g];
    for (int batch = 0; batch < kBatches; ++batch) {
      const std::vector<Index> both = {0, 1};
      ranks.members[g]->update(both, [&] {
        for (std::size_t i = 0; i < 2; ++i)
          own.main[i].set((batch + 2 * g + static_cast<int>(i)) % 100);
      });
      const Replication& plan = plans[static_cast<std::size_t>(batch) % plans.size()];
      ASSERT_EQ(ranks.members[g]->fetch(plan), kAll);
      const Index e = plan.slot_expert[g];
      if (e >= 0) {
        ASSERT_TRUE(own.dynamic[0].is((batch + e) % 100)) << batch;
      }
    }
  });
  EXPECT_EQ(ranks.members[1]->stats().copied, kBatches);
}

TEST(Weights, LiveRanksAreTheGroup) {
  const Placement p = make_placement(3, 2, std::vector<Index>{0, 0, 1}, {.rank_alive = {1, 0, 1}});
  InProcessWeights group(p, 1, {{1}});
  char weight[4] = {5, 0, 6, 0};
  auto first = group.member(0, {{{&weight[0]}}, {{&weight[1]}}, {}, {}});
  auto last = group.member(2, {{{&weight[2]}}, {{&weight[3]}}, {}, {}});
  std::thread other([&] { EXPECT_EQ(last->fetch(plan_of({1, -1, 0}, {2, -1, 0})), kAll); });
  EXPECT_EQ(first->fetch(plan_of({1, -1, 0}, {2, -1, 0})), kAll);
  other.join();
  EXPECT_THAT(weight, ElementsAre(5, 6, 6, 5));
  expect_refused(
      [&] {
        group.member(1, {{{&weight[0]}}, {{&weight[1]}}, {}, {}});
      },
      "1 is not a live rank");
  expect_refused([&] { first->fetch(plan_of({1, -1, 0}, {1, -1, 0})); }, "does not have it");
}

TEST(Weights, SayWhatIsWrong) {
  ThreeRanks ranks;
  WeightExchange& own = *ranks.members[0];
  expect_refused([&] { own.fetch(plan_of({-1}, {-1})); }, "plan: has 1 experts and 1 sources");
  expect_refused(
      [&] {
        own.fetch(plan_of({-1, -1, 0}, {-1, -1, 1}));
      },
      "takes expert 0 from rank 1, which does not have it");
  expect_refused([&] { own.fetch(plan_of({-1, -1, 0}, {-1, -1, 3})); }, "from rank 3");
  expect_refused([&] { own.reduce_gradients(); }, "nothing was fetched");
  expect_refused([&] { own.update(std::vector<Index>{2}, [] {}); }, "main_slots: has 2");
  const Placement& p = ranks.placement;
  expect_refused([&] { ranks.group.member(0, ranks.memory[0].buffers()); },
                 "rank: 0 has its member");
  expect_refused([&] { ranks.group.member(3, {}); }, "3 is not a live rank");
  const auto refused = [&p](const WeightBuffers& buffers, const char* part) {
    InProcessWeights group(p, 1, kLayout);
    expect_refused([&] { group.member(0, buffers); }, part);
  };
  WeightBuffers buffers = ranks.memory[0].buffers();
  buffers.main.pop_back();
  refused(buffers, "main: has 1 slots, expected 2");
  buffers = ranks.memory[0].buffers();
  buffers.dynamic[0][1] = nullptr;
  refused(buffers, "dynamic: has a slot of 2 tensors, or a null one");
  buffers = ranks.memory[0].buffers();
  buffers.main_gradients.clear();
  refused(buffers, "main_gradients: has 0 slots");
  buffers = ranks.memory[0].buffers();
  buffers.dynamic_gradients[0] = nullptr;
  refused(buffers, "dynamic_gradients: has 1 slots, or a null one");
  expect_refused([&] { InProcessWeights(p, 0, kLayout); }, "dynamic_slots: 0 is not between");
  expect_refused([&] { InProcessWeights(p, 1, {}); }, "tensor_bytes: is empty");
  expect_refused([&] { InProcessWeights(p, 1, {{0}}); }, "tensor_bytes: has 0");
  expect_refused([&] { InProcessWeights(p, 1, kLayout, 0us); }, "deadline: 0 us");
}

}  // namespace
}  // namespace lplb
