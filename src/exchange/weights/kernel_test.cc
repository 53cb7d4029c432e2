// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>

#include <array>
#include <thread>

#include "exchange/weights/kernel_test_support.h"

// The kernels that move weights of copies, on the CPU.
namespace lplb {
namespace {

using namespace std::chrono_literals;
using exchange::kVerdictBehind;
using exchange::kVerdictFailed;
using exchange::kVerdictMismatched;
using exchange::kVerdictRefused;
using exchange::kVerdictTimedOut;
using testing::CopyPlan;
using ::testing::Each;
using ::testing::ElementsAre;
using testing::EmulatedWeights;
using testing::SplitMix64;

/// Three ranks of two experts each.
Placement three_ranks() { return make_placement(3, 6, std::vector<Index>{0, 1, 2, 3, 4, 5}); }

/// A tensor of more than two tiles and one of 13 bytes.
const DeviceWeightLayout kTensors{
    .tensor_bytes = {70000, 13}, .gradient_sizes = {8200, 24}, .gradient_type = {}};

/// What byte `at` of an expert's tensor is in a version.
unsigned char pattern(Index layer, Index expert, Index tensor, int version, std::size_t at) {
  std::uint64_t x = at / 3 + 7 * static_cast<std::uint64_t>(expert) + 1000003u * version +
                    77777u * static_cast<std::uint64_t>(tensor) +
                    999331u * static_cast<std::uint64_t>(layer);
  x *= 0x9E3779B97F4A7C15u;
  return static_cast<unsigned char>(x >> 33);
}

void write_expert(EmulatedWeights& w, Index member, Index layer, Index slot, int version) {
  const Index rank = w.ranks[static_cast<std::size_t>(member)];
  const Index expert =
      w.placement.physical_to_logical[static_cast<std::size_t>(rank * w.layout.main_slots + slot)];
  for (Index t = 0; t < 2; ++t) {
    for (std::size_t i = 0; i < kTensors.tensor_bytes[static_cast<std::size_t>(t)]; ++i) {
      w.main(member, layer, t, slot)[i] = pattern(layer, expert, t, version, i);
    }
  }
}

/// Whether a dynamic slot holds this version of an expert, whole.
bool holds(EmulatedWeights& w, Index member, Index layer, Index slot, Index expert, int version) {
  for (Index t = 0; t < 2; ++t) {
    for (std::size_t i = 0; i < kTensors.tensor_bytes[static_cast<std::size_t>(t)]; ++i) {
      if (w.dynamic(member, layer, t, slot)[i] != pattern(layer, expert, t, version, i)) {
        return false;
      }
    }
  }
  return true;
}

void write_all(EmulatedWeights& w, Index num_layers, int version) {
  for (std::size_t m = 0; m < w.ranks.size(); ++m) {
    for (Index l = 0; l < num_layers; ++l) {
      for (Index s = 0; s < w.layout.main_slots; ++s) {
        write_expert(w, static_cast<Index>(m), l, s, version);
      }
    }
  }
}

class EmulatedFetch : public ::testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(Paths, EmulatedFetch, ::testing::Bool(), [](const auto& test) {
  return test.param ? std::string("bulk") : std::string("threads");
});

TEST_P(EmulatedFetch, BringsWhatRandomPlansSay) {
  SplitMix64 random(5);
  const Placement p = three_ranks();
  constexpr Index kLayers = 3;
  constexpr Index kSlots = 2;
  for (const Index sets : {0, 2}) {
    EmulatedWeights w(p, kLayers, kTensors, {.dynamic_slots = kSlots, .slot_sets = sets}, 2,
                      GetParam());
    std::array<std::array<int, 6>, kLayers> version{};  // of each expert
    write_all(w, kLayers, 0);
    std::vector<std::array<Index, 3>> held(3 * kSlots * kLayers, {-1, -1, -1});
    std::vector<unsigned long long> copied(3, 0), skipped(3, 0);
    for (int batch = 0; batch < 12; ++batch) {
      const Index layer = random.below(kLayers);
      const Index changed = random.below(6);
      if (batch % 3 == 1) {
        write_expert(w, changed / 2, layer, changed % 2, ++version[layer][changed]);
        w.update(changed / 2, layer, changed % 2);
      }
      // Every other plan comes twice, so that slots are kept.
      const CopyPlan plan = testing::random_copies(p, kSlots, random);
      for (int again = 0; again <= batch % 2; ++again) {
        w.fetch(plan, layer);
        EXPECT_THAT(w.outcome, Each(0));
        for (Index i = 0; i < 3 * kSlots; ++i) {
          const Index e = plan.expert[static_cast<std::size_t>(i)];
          const Index rank = i / kSlots;
          EXPECT_EQ(w.is_held[rank][i % kSlots], e >= 0 ? 1 : 0);
          if (e < 0) continue;
          EXPECT_TRUE(holds(w, rank, layer, i % kSlots, e, version[layer][e])) << batch;
          auto& now = held[w.layout.set_of(layer) * 3 * kSlots + i];
          const std::array<Index, 3> want = {layer, e, version[layer][e]};
          ++(now == want ? skipped : copied)[rank];
          now = want;
        }
      }
    }
    for (Index m = 0; m < 3; ++m) {
      EXPECT_EQ(w.control(m).copied, copied[m]);
      EXPECT_EQ(w.control(m).skipped, skipped[m]);
      EXPECT_EQ(w.control(m).bytes, copied[m] * (70000 + 16));
      EXPECT_EQ(w.control(m).calls, 18u);
      EXPECT_GT(skipped[m], 0u);
    }
  }
}

TEST_P(EmulatedFetch, LiveRanksAreTheGroup) {
  const Placement p =
      make_placement(3, 4, std::vector<Index>{0, 1, 0, 1, 2, 3}, {.rank_alive = {1, 0, 1}});
  EmulatedWeights w(p, 1, kTensors, {}, 2, GetParam(), true);
  write_all(w, 1, 3);
  w.fetch({{2, -1, 1}, {2, -1, 0}});
  EXPECT_THAT(w.outcome, ElementsAre(0, 0));
  EXPECT_TRUE(holds(w, 0, 0, 0, 2, 3));
  EXPECT_TRUE(holds(w, 1, 0, 0, 1, 3));
  w.fetch({{0, -1, 1}, {1, -1, 0}});  // the source is dead
  EXPECT_EQ(w.outcome[0], static_cast<int>(kVerdictRefused));
  EXPECT_NE(w.outcome[1], 0);
}

TEST_P(EmulatedFetch, ARankThatStaysAwayCostsABatch) {
  EmulatedWeights w(three_ranks(), 1, kTensors, {}, 2, GetParam());
  write_all(w, 1, 1);
  const CopyPlan plan{{4, 0, 2}, {2, 0, 1}};
  w.deadline = 200ms;
  const auto start = std::chrono::steady_clock::now();
  w.run({{0, &plan}, {1, &plan}});
  EXPECT_LT(std::chrono::steady_clock::now() - start, 10s);
  // Rank 0's source did not come, so its slot is empty; rank 1's did. But nobody may use copies.
  EXPECT_EQ(w.outcome[0], static_cast<int>(kVerdictTimedOut));
  EXPECT_NE(w.outcome[1] & (kVerdictTimedOut | kVerdictFailed), 0u);
  EXPECT_EQ(w.is_held[0][0], 0);
  EXPECT_EQ(w.is_held[1][0], 1);
  EXPECT_EQ(w.control(0).timed_out, 1u);
  EXPECT_EQ(w.control(0).last_missing, 2);

  // The late rank finds that its source has left, so that it may not use what it reads.
  w.run({{2, &plan}});
  EXPECT_EQ(w.is_held[2][0], 0);
  EXPECT_EQ(w.outcome[2], static_cast<int>(kVerdictBehind));
  EXPECT_EQ(w.control(2).behind, 1u);

  // The next call is complete. Only rank 1's slot is kept.
  w.deadline = 2min;
  w.fetch(plan);
  EXPECT_THAT(w.outcome, Each(0));
  EXPECT_TRUE(holds(w, 0, 0, 0, 4, 1) && holds(w, 1, 0, 0, 0, 1) && holds(w, 2, 0, 0, 2, 1));
  EXPECT_EQ(w.control(0).copied, 1u);
  EXPECT_EQ(w.control(1).skipped, 1u);
  EXPECT_EQ(w.control(2).copied, 1u);
}

// Rank 1 waits for rank 0 and for rank 2. Rank 0 comes, and leaves before rank 2 comes, so that
// rank 1 reads rank 0's weights when these may have changed.
TEST_P(EmulatedFetch, ASourceThatLeavesMeanwhileMakesTheSlotEmpty) {
  EmulatedWeights w(three_ranks(), 1, kTensors, {.dynamic_slots = 2}, 2, GetParam());
  write_all(w, 1, 1);
  const CopyPlan plan{{-1, -1, 1, 4, -1, -1}, {-1, -1, 0, 2, -1, -1}};
  w.run({{0, &plan, 1ns}, {1, &plan}, {2, &plan, {}, 0}});
  EXPECT_EQ(w.outcome[0], static_cast<int>(kVerdictTimedOut));
  EXPECT_EQ(w.outcome[1], static_cast<int>(kVerdictBehind));
  EXPECT_EQ(w.control(1).last_missing, 0);
  EXPECT_THAT(w.is_held[1], ElementsAre(0, 1, -1, -1, -1, -1, -1, -1));
  EXPECT_TRUE(holds(w, 1, 0, 0, 1, 1));  // it was read, but does not count
  EXPECT_NE(w.outcome[2], 0);
  w.fetch(plan);
  EXPECT_THAT(w.outcome, Each(0));
  EXPECT_EQ(w.control(1).copied, 2u);
  EXPECT_EQ(w.control(1).skipped, 1u);
}

TEST_P(EmulatedFetch, ARankThatIsTwoCallsLateKnowsAtOnce) {
  EmulatedWeights w(three_ranks(), 1, kTensors, {}, 1, GetParam());
  write_all(w, 1, 1);
  const CopyPlan plan{{-1, -1, 2}, {-1, -1, 1}};
  w.deadline = 10ms;
  for (int i = 0; i < 3; ++i) w.run({{0, &plan}, {1, &plan}});
  w.deadline = 2min;  // the test's time-out would pass if it waited
  for (int i = 0; i < 2; ++i) {
    w.run({{2, &plan}});
    EXPECT_EQ(w.is_held[2][0], 0);
    EXPECT_EQ(w.outcome[2], static_cast<int>(kVerdictBehind));
  }
}

TEST_P(EmulatedFetch, PlansThatDifferAreFound) {
  EmulatedWeights w(three_ranks(), 1, kTensors, {}, 2, GetParam());
  const CopyPlan plan{{4, -1, -1}, {2, -1, -1}};
  const CopyPlan other{{5, -1, -1}, {2, -1, -1}};
  w.run({{0, &plan}, {1, &plan}, {2, &other}});
  EXPECT_THAT(w.outcome, Each(static_cast<int>(kVerdictMismatched)));
  EXPECT_EQ(w.control(0).mismatched, 1u);
  EXPECT_EQ(w.control(0).last_missing, 2);
  w.fetch(other);
  EXPECT_THAT(w.outcome, Each(0));
}

// A rank whose planner has degraded a batch has a plan without copies. The others learn it from the
// call itself, whether they have copies from its weights, in its slots, or neither.
TEST_P(EmulatedFetch, ARankWithoutAPlanIsKnownToAll) {
  EmulatedWeights w(three_ranks(), 1, kTensors, {}, 2, GetParam());
  write_all(w, 1, 1);
  const CopyPlan none{{-1, -1, -1}, {-1, -1, -1}};
  const std::vector<CopyPlan> plans = {
      {{4, -1, -1}, {2, -1, -1}}, {{-1, -1, 2}, {-1, -1, 1}}, {{3, -1, -1}, {1, -1, -1}}};
  for (const CopyPlan& plan : plans) {
    w.run({{0, &plan}, {1, &plan}, {2, &none}});
    EXPECT_THAT(w.outcome, Each(static_cast<int>(kVerdictMismatched)));
    EXPECT_EQ(w.is_held[2][0], 0);
    w.fetch(plan);
    EXPECT_THAT(w.outcome, Each(0));
  }
}

TEST_P(EmulatedFetch, PlansThatNameWhatIsNotThereAreRefused) {
  EmulatedWeights w(three_ranks(), 1, kTensors, {}, 2, GetParam());
  const std::vector<CopyPlan> wrong = {{{4, -1, -1}, {1, -1, -1}},
                                       {{4, -1, -1}, {3, -1, -1}},
                                       {{4, -1, -1}, {-1, -1, -1}},
                                       {{6, -1, -1}, {2, -1, -1}},
                                       {{-2, -1, -1}, {2, -1, -1}}};
  for (const CopyPlan& plan : wrong) {
    w.fetch(plan);
    EXPECT_EQ(w.outcome[0], static_cast<int>(kVerdictRefused));
    EXPECT_EQ(w.outcome[1], static_cast<int>(kVerdictFailed));
    EXPECT_EQ(w.is_held[0][0], 0);
  }
  EXPECT_EQ(w.control(0).refused, wrong.size());
  EXPECT_EQ(w.control(1).failed, wrong.size());
}

/// Gradients of random values, and the same in a group of threads, whose sums are the reference.
template <class Value>
void expect_sums_of_threads(GradientType type, bool by_bulk) {
  SplitMix64 random(11);
  const Placement p = make_placement(4, 6, std::vector<Index>{0, 1, 2, 2, 3, 4, 5, 0});
  constexpr Index kSlots = 2;
  DeviceWeightLayout tensors = kTensors;
  tensors.gradient_type = type;
  EmulatedWeights w(p, 1, tensors, {.dynamic_slots = kSlots}, 2, by_bulk);
  const auto num_gradients = static_cast<std::size_t>(8200 + 24);
  InProcessWeights group(p, kSlots, {{1}, num_gradients, type});
  std::vector<std::unique_ptr<WeightExchange>> members;
  std::vector<std::vector<std::vector<Value>>> main(4), dynamic(4);
  char weight[4] = {};
  char copies[4][kSlots] = {};
  for (Index g = 0; g < 4; ++g) {
    WeightBuffers buffers;
    main[g].assign(2, std::vector<Value>(num_gradients));
    dynamic[g].assign(kSlots, std::vector<Value>(num_gradients));
    for (auto& v : main[g]) {
      buffers.main.push_back({&weight[g]});
      buffers.main_gradients.push_back(v.data());
    }
    for (auto& v : dynamic[g]) {
      buffers.dynamic.push_back({&copies[g][buffers.dynamic.size()]});
      buffers.dynamic_gradients.push_back(v.data());
    }
    members.push_back(group.member(g, buffers));
  }
  const auto draw = [&]() -> Value {
    const auto value = static_cast<float>((random.unit() - 0.5) * (1 + 1000 * random.below(2)));
    if constexpr (sizeof(Value) == 4) {
      return value;
    } else {
      return static_cast<Value>(std::bit_cast<std::uint32_t>(value) >> 16);
    }
  };
  for (int batch = 0; batch < 5; ++batch) {
    const CopyPlan plan = testing::random_copies(p, kSlots, random);
    for (auto* all : {&main, &dynamic}) {
      for (auto& slots : *all) {
        for (auto& values : slots) std::generate(values.begin(), values.end(), draw);
      }
    }
    const auto copy = [&](const std::vector<Value>& from, unsigned char* first,
                          unsigned char* second) {
      std::memcpy(first, from.data(), 8200 * sizeof(Value));
      std::memcpy(second, from.data() + 8200, 24 * sizeof(Value));
    };
    const auto main_at = [&](Index g, std::size_t t, Index s) {
      return w.main_gradients[g][t].data() + s * w.layout.gradient[t].bytes;
    };
    for (Index g = 0; g < 4; ++g) {
      for (Index s = 0; s < 2; ++s) {
        copy(main[g][s], main_at(g, 0, s), main_at(g, 1, s));
        copy(dynamic[g][s], w.gradient(g, 0, 0, s), w.gradient(g, 0, 1, s));
      }
    }
    w.fetch(plan);
    w.reduce();
    EXPECT_THAT(w.outcome, Each(0));
    Replication replication;
    replication.slot_expert.assign(plan.expert.begin(), plan.expert.end());
    replication.slot_source.assign(plan.source.begin(), plan.source.end());
    std::vector<std::thread> threads;
    for (Index g = 0; g < 4; ++g) {
      threads.emplace_back([&, g] {
        EXPECT_EQ(members[g]->fetch(replication), ExchangeStatus::kComplete);
        EXPECT_EQ(members[g]->reduce_gradients(), ExchangeStatus::kComplete);
      });
    }
    for (std::thread& thread : threads) thread.join();
    for (Index g = 0; g < 4; ++g) {
      for (Index s = 0; s < 2; ++s) {
        EXPECT_EQ(std::memcmp(main[g][s].data(), main_at(g, 0, s), 8200 * sizeof(Value)), 0);
        EXPECT_EQ(std::memcmp(main[g][s].data() + 8200, main_at(g, 1, s), 24 * sizeof(Value)), 0);
      }
    }
  }
}

TEST_P(EmulatedFetch, GradientsAreThoseOfThreads) {
  expect_sums_of_threads<float>(GradientType::kFloat32, GetParam());
  expect_sums_of_threads<std::uint16_t>(GradientType::kBFloat16, GetParam());
}

TEST_P(EmulatedFetch, GradientsOfARankThatLeavesMeanwhileDoNotCount) {
  EmulatedWeights w(three_ranks(), 1, kTensors, {}, 2, GetParam());
  w.fetch({{2, -1, 2}, {1, -1, 1}});
  EXPECT_THAT(w.outcome, Each(0));
  w.run({{0, nullptr, 1ns}, {1, nullptr}, {2, nullptr, {}, 0}});
  EXPECT_EQ(w.outcome[0], static_cast<int>(kVerdictTimedOut));
  EXPECT_EQ(w.outcome[1], static_cast<int>(kVerdictBehind));
  EXPECT_NE(w.outcome[2], 0);
  w.reduce();
  EXPECT_THAT(w.outcome, Each(0));
}

TEST_P(EmulatedFetch, GradientsOfALostFetchAreNotAdded) {
  EmulatedWeights w(three_ranks(), 2, kTensors, {.slot_sets = 1}, 2, GetParam());
  const CopyPlan plan{{4, -1, -1}, {2, -1, -1}};
  w.reduce();
  EXPECT_THAT(w.outcome, Each(static_cast<int>(kVerdictRefused)));
  w.fetch(plan, 0);
  w.fetch(plan, 1);
  w.reduce(0);  // the slots hold layer 1's copies
  EXPECT_THAT(w.outcome, Each(static_cast<int>(kVerdictRefused)));
  w.reduce(1);
  EXPECT_THAT(w.outcome, Each(0));
  w.deadline = 10ms;
  w.run({{0, &plan}, {1, &plan}}, 1);
  w.run({{2, &plan}}, 1);
  w.deadline = 2min;
  w.reduce(1);
  EXPECT_NE(w.outcome[0], 0);
  EXPECT_EQ(w.control(0).refused, 3u);
  w.fetch(plan, 1);
  w.reduce(1);
  EXPECT_THAT(w.outcome, Each(0));
}

}  // namespace
}  // namespace lplb
