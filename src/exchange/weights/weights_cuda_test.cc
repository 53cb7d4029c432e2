// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>

#include <csignal>
#include <cstring>
#include <string>

#include "exchange/scenario_test_support.h"
#include "exchange/weights/test_group.h"
#include "support/expect_refused.h"

// Weights of copies on GPUs. The ranks are streams of one process, or processes.
namespace lplb {
namespace {

using namespace std::chrono_literals;
using testing::CopyBatch;
using testing::CopyLog;
using testing::draw_copies;
using ::testing::Each;
using testing::expect_refused;
using testing::expect_well;
using testing::ProcessGroup;
using testing::require;
using testing::WeightRank;

constexpr Index kSlots = 2;
/// A tensor of several tiles, one of less than a tile.
const DeviceWeightLayout kTensors{.tensor_bytes = {300 * 1024 + 48, 1024},
                                  .gradient_sizes = {20008, 64}};

int rounds_or(int quick) {
  const char* const text = std::getenv("LPLB_EXCHANGE_ROUNDS");
  return text != nullptr ? std::atoi(text) : quick;
}

/// All ranks on one device.
struct VirtualWeights {
  VirtualWeights(const Placement& placement, DeviceWeightOptions options, int num_batches,
                 const DeviceWeightLayout& tensors = kTensors)
      : p(placement), batches(draw_copies(p, kSlots, num_batches, 3)) {
    options.dynamic_slots = kSlots;
    const std::vector<Placement> layers(options.slot_sets > 0 ? 2 : 1, p);
    auto all = DeviceWeightExchange::in_process(
        std::vector<int>(static_cast<std::size_t>(p.num_ranks), 0), layers, tensors, options);
    for (Index g = 0; g < p.num_ranks; ++g) {
      ranks.push_back(std::make_unique<WeightRank>(std::move(all[static_cast<std::size_t>(g)]), g,
                                                   p, tensors, kSlots, batches));
    }
  }
  void expect_right(std::int64_t calls) {
    for (std::size_t g = 0; g < ranks.size(); ++g) {
      const auto& rank = ranks[g];
      const CopyLog log = rank->log();
      EXPECT_EQ(log.wrong_words, 0u);
      EXPECT_EQ(log.not_held, 0u);
      EXPECT_EQ(log.incomplete, 0u);
      EXPECT_EQ(log.slots, static_cast<unsigned long long>(calls * kSlots));
      EXPECT_EQ(rank->stats().complete(), calls);
      const testing::CopyCount want =
          count_copies(batches, static_cast<Index>(g), kSlots, static_cast<int>(calls));
      EXPECT_EQ((testing::CopyCount{rank->stats().copied, rank->stats().skipped}), want);
      EXPECT_GT(std::min(want.copied, want.skipped), 0);
    }
  }

  const Placement p;
  const std::vector<CopyBatch> batches;
  std::vector<std::unique_ptr<WeightRank>> ranks;
};

using WeightsCuda = testing::PeerCuda;

TEST_F(WeightsCuda, RandomPlansOfRanksThatAreLateBringTheRightVersions) {
  for (const Index num_ranks : {2, 4, 8}) {
    SCOPED_TRACE(num_ranks);
    const int rounds = rounds_or(1000);
    VirtualWeights group(testing::homes(num_ranks, 3), {.num_sms = num_ranks == 8 ? 2 : 6}, rounds);
    for (int round = 0; round < rounds; ++round) {
      for (auto& rank : group.ranks) rank->enqueue(round, round % 3 == 0 ? 0 : 20000);
    }
    group.expect_right(rounds);
  }
}

TEST_F(WeightsCuda, GraphsAreReplayed) {
  constexpr int kBatches = 12;
  VirtualWeights group(testing::homes(4, 3), {.num_sms = 3}, kBatches);
  std::vector<std::unique_ptr<testing::CapturedGraph>> graphs;
  for (auto& rank : group.ranks) {
    auto& graph = graphs.emplace_back(std::make_unique<testing::CapturedGraph>(rank->stream.get()));
    for (int i = 0; i < kBatches; ++i) rank->enqueue(i);
    graph->end();
  }
  constexpr int kReplays = 50;
  for (int i = 0; i < kReplays; ++i) {
    for (const auto& graph : graphs) graph->launch();
  }
  group.expect_right(kBatches * kReplays);
}

TEST_F(WeightsCuda, ARankThatIsLeftOutCostsABatchAndComesBack) {
  VirtualWeights group(testing::homes(3, 3), {.num_sms = 4, .deadline = 5ms}, 8);
  const auto start = std::chrono::steady_clock::now();
  for (int round = 0; round < 2; ++round) {
    for (int g = 0; g < 2; ++g) group.ranks[g]->enqueue(round);
  }
  for (int g = 0; g < 2; ++g) {
    EXPECT_NE(group.ranks[g]->outcome(), 0);
    EXPECT_EQ(group.ranks[g]->log().wrong_words, 0u);
    EXPECT_EQ(group.ranks[g]->stats().complete(), 0);
    // What came from the rank that is not there is empty.
    for (Index s = 0; s < kSlots; ++s) {
      if (group.batches[1].source[static_cast<std::size_t>(g * kSlots + s)] != 2) continue;
      EXPECT_EQ(group.ranks[g]->is_held()[s], 0);
    }
  }
  EXPECT_LT(std::chrono::steady_clock::now() - start, 1s);
  for (int round = 0; round < 2; ++round) group.ranks[2]->enqueue(round);
  EXPECT_EQ(group.ranks[2]->log().wrong_words, 0u);
  for (int round = 2; round < 8; ++round) {
    for (auto& rank : group.ranks) rank->enqueue(round);
  }
  for (auto& rank : group.ranks) {
    EXPECT_EQ(rank->outcome(), 0);
    EXPECT_EQ(rank->log().wrong_words, 0u);
    EXPECT_EQ(rank->log().not_held, 0u);
    EXPECT_GE(rank->stats().complete(), 6);
  }
}

float to_float(std::uint32_t bits) {
  float value = 0;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

/// The sum of gradients in the order of ranks, in float32. Words are float32, or bfloat16 below 16
/// bits.
std::uint32_t sum_in_order(const std::vector<std::uint32_t>& words, GradientType type) {
  const bool is_short = type == GradientType::kBFloat16;
  float sum = to_float(is_short ? words[0] << 16 : words[0]);
  for (std::size_t i = 1; i < words.size(); ++i) {
    sum += to_float(is_short ? words[i] << 16 : words[i]);
  }
  std::uint32_t bits = 0;
  std::memcpy(&bits, &sum, sizeof(bits));
  return is_short ? (bits + 0x7FFF + (bits >> 16 & 1)) >> 16 : bits;
}

template <class Value>
void expect_sums(GradientType type) {
  DeviceWeightLayout tensors = kTensors;
  tensors.gradient_type = type;
  VirtualWeights group(testing::homes(4, 3), {.num_sms = 5}, 6, tensors);
  testing::SplitMix64 random(8);
  const auto draw = [&] {
    const auto value = static_cast<float>(random.unit() - 0.5);
    std::uint32_t bits = 0;
    std::memcpy(&bits, &value, sizeof(bits));
    return static_cast<Value>(sizeof(Value) == 4 ? bits : bits >> 16);
  };
  for (int round = 0; round < 6; ++round) {
    std::vector<std::vector<std::vector<Value>>> main(4), dynamic(4);  // [rank][tensor][slots, n]
    std::vector<std::vector<std::unique_ptr<testing::DeviceVector<Value>>>> sums(4);
    std::vector<std::unique_ptr<testing::DeviceVector<std::int32_t>>> outcome;
    for (Index g = 0; g < 4; ++g) {
      for (std::size_t t = 0; t < 2; ++t) {
        auto& m = main[g].emplace_back(3 * tensors.gradient_sizes[t]);
        auto& d = dynamic[g].emplace_back(kSlots * tensors.gradient_sizes[t]);
        std::generate(m.begin(), m.end(), draw);
        std::generate(d.begin(), d.end(), draw);
        sums[g].push_back(std::make_unique<testing::DeviceVector<Value>>(m));
        LPLB_CUDA_CHECK(
            cudaMemcpy(group.ranks[g]->exchange->dynamic_gradients(0, static_cast<Index>(t)),
                       d.data(), d.size() * sizeof(Value), cudaMemcpyHostToDevice));
      }
      outcome.push_back(
          std::make_unique<testing::DeviceVector<std::int32_t>>(std::vector<std::int32_t>{-1}));
    }
    LPLB_CUDA_CHECK(cudaDeviceSynchronize());
    for (Index g = 0; g < 4; ++g) {
      WeightRank& rank = *group.ranks[g];
      rank.enqueue(round);
      const std::vector<void*> to = {sums[g][0]->data(), sums[g][1]->data()};
      rank.exchange->reduce_gradients(rank.stream.get(), 0, to, outcome[g]->data());
    }
    const CopyBatch& batch = group.batches[static_cast<std::size_t>(round)];
    for (Index g = 0; g < 4; ++g) {
      group.ranks[g]->wait();
      EXPECT_EQ(outcome[g]->get()[0], 0);
      for (std::size_t t = 0; t < 2; ++t) {
        const std::size_t size = tensors.gradient_sizes[t];
        const std::vector<Value> got = sums[g][t]->get();
        for (std::size_t slot = 0; slot < 3; ++slot) {
          std::size_t wrong = 0;
          for (std::size_t i = 0; i < size; ++i) {
            std::vector<std::uint32_t> words = {main[g][t][slot * size + i]};
            for (std::size_t c = 0; c < batch.expert.size(); ++c) {
              if (batch.expert[c] != g * 3 + static_cast<Index>(slot)) continue;
              words.push_back(dynamic[c / kSlots][t][c % kSlots * size + i]);
            }
            const std::uint32_t want = words.size() == 1 ? words[0] : sum_in_order(words, type);
            wrong += got[slot * size + i] != static_cast<Value>(want) ? 1 : 0;
          }
          EXPECT_EQ(wrong, 0u) << "rank " << g << ", tensor " << t << ", slot " << slot;
        }
      }
    }
  }
}

TEST_F(WeightsCuda, GradientsAreAddedInTheOrderOfRanks) {
  expect_sums<std::uint32_t>(GradientType::kFloat32);
  expect_sums<std::uint16_t>(GradientType::kBFloat16);
}

TEST_F(WeightsCuda, SaysWhatIsWrong) {
  const std::vector<Placement> layers = {testing::homes(2, 3)};
  const std::vector<int> devices = {0, 0};
  const auto make = [&](const DeviceWeightLayout& layout, const DeviceWeightOptions& options) {
    return DeviceWeightExchange::in_process(devices, layers, layout, options);
  };
  expect_refused([&] { make({}, {}); }, "tensor_bytes: has 0 tensors, expected 1 to 8");
  expect_refused([&] { make({.tensor_bytes = {0}}, {}); }, "tensor_bytes: has 0, expected");
  expect_refused([&] { make({.tensor_bytes = {4}, .gradient_sizes = {6}}, {}); },
                 "gradient_sizes: has 6, expected a multiple of 4");
  expect_refused([&] { make(kTensors, {.dynamic_slots = 9}); },
                 "dynamic_slots: 9 is not between 1 and 8");
  expect_refused([&] { make(kTensors, {.slot_sets = 2}); }, "slot_sets: 2 is not between 0 and 1");
  expect_refused([&] { make(kTensors, {.num_sms = 0}); }, "num_sms: 0 is not between 1 and 1024");
  expect_refused([&] { make(kTensors, {.num_buffers = 7}); },
                 "num_buffers: 7 is not between 2 and 6");
  expect_refused([&] { make(kTensors, {.deadline = 0us}); }, "deadline: 0 us is not > 0");
  expect_refused([&] { DeviceWeightExchange::in_process(devices, {}, kTensors, {}); },
                 "layers: is empty, expected a placement for each layer");
  expect_refused(
      [&] { DeviceWeightExchange::in_process(std::vector<int>{0}, layers, kTensors, {}); },
      "devices: are 1, expected one for each rank of the placement (2)");
  auto group = make(kTensors, {});
  DeviceWeightExchange& rank = *group[0];
  expect_refused([&] { rank.main(1, 0); }, "layer: 1 is not between 0 and 0");
  expect_refused([&] { rank.dynamic(0, 2); }, "tensor: 2 is not between 0 and 1");
  expect_refused([&] { rank.fetch(nullptr, 0, {}); }, "slot_expert: is null, expected 2 experts");
  expect_refused([&] { rank.update(nullptr, 0, 2, 2); }, "num_slots: 2 is not between 1 and 1");
  expect_refused([&] { rank.reduce_gradients(nullptr, 0, {}); },
                 "main_gradients: has 0 tensors, expected 2");
  // The dynamic slots follow the main slots.
  EXPECT_EQ(static_cast<char*>(rank.main(0, 1)) + 3 * rank.stride(1), rank.dynamic(0, 1));
  EXPECT_EQ(rank.stride(0), 300u * 1024 + 48);
}

/// Connects, and runs batches that are checked.
void run_batches(ProcessGroup& group, const std::string& transport, int rounds,
                 std::chrono::microseconds deadline, bool is_killed) {
  std::unique_ptr<testing::NcclComm> comm;
  if (transport == "nccl") comm = std::make_unique<testing::NcclComm>(group);
  const auto num_ranks = static_cast<Index>(group.num_ranks());
  const auto me = static_cast<Index>(group.rank());
  const Placement p = testing::homes(num_ranks, 3);
  const std::vector<CopyBatch> batches = draw_copies(p, kSlots, rounds, 3);
  WeightRank rank(
      DeviceWeightExchange::connect(me, num_ranks, testing::gather_of(group), std::span(&p, 1),
                                    kTensors, {.dynamic_slots = kSlots, .deadline = deadline},
                                    {transport, comm != nullptr ? comm->get() : nullptr}),
      me, p, kTensors, kSlots, batches);
  rank.wait();
  group.barrier();
  if (me == 0) {
    std::printf("%s: %s, %zu bytes\n", transport.c_str(),
                transport_name(rank.exchange->transport()), rank.exchange->bytes());
  }
  for (int round = 0; round < rounds; ++round) {
    if (is_killed && me == num_ranks - 1 && round == rounds / 2) {
      // The calls that are enqueued are under way when the process ends.
      (void)std::raise(SIGKILL);
    }
    rank.enqueue(round, round % 3 == 0 ? 0 : 20000);
    if (is_killed && round > rounds / 2 + 8) break;
  }
  const CopyLog log = rank.log();
  const DeviceWeightStats stats = rank.stats();
  require(log.wrong_words == 0, "wrong words: " + std::to_string(log.wrong_words));
  require(log.not_held == 0, "slots that are not held: " + std::to_string(log.not_held));
  if (is_killed) {
    require(stats.complete() < stats.calls, "no call was lost");
    require(rank.outcome() != 0, "the last call is complete");
    return;  // the group cannot end cleanly
  }
  require(stats.complete() == rounds, "complete: " + std::to_string(stats.complete()));
  require(testing::CopyCount{stats.copied, stats.skipped} ==
              testing::count_copies(batches, me, kSlots, rounds),
          "copied: " + std::to_string(stats.copied) + ", kept: " + std::to_string(stats.skipped));
  group.barrier();
  rank.exchange->disconnect();
  group.barrier();
}

void run_scenario(const std::string& name, ProcessGroup& group) {
  const bool one_device = name.starts_with("one-");
  LPLB_CUDA_CHECK(cudaSetDevice(one_device ? 0 : group.rank()));
  const std::string scenario = one_device ? name.substr(4) : name;
  if (scenario == "killed") return run_batches(group, "auto", 400, 20ms, true);
  // NOTE: processes that share a device take turns of milliseconds.
  run_batches(group, scenario, one_device ? 60 : 3000, 10s, false);
}

TEST_F(WeightsCuda, TwoProcessesOfOneDeviceByIpc) { expect_well("one-ipc", 2); }

class WeightsMultiCuda : public testing::TwoDevices {};
TEST_P(WeightsMultiCuda, CopiesAreRight) { expect_well(GetParam(), 2); }
INSTANTIATE_TEST_SUITE_P(Transports, WeightsMultiCuda,
                         ::testing::Values("auto", "ipc", "fabric", "nccl", "nvshmem"),
                         testing::scenario_name);

using WeightsKilledMultiCuda = WeightsMultiCuda;
INSTANTIATE_TEST_SUITE_P(All, WeightsKilledMultiCuda, ::testing::Values("killed"),
                         testing::scenario_name);
TEST_P(WeightsKilledMultiCuda, TheOthersEndWithinTheDeadline) {
  testing::expect_one_killed(GetParam());
}

}  // namespace
}  // namespace lplb

int main(int argc, char** argv) { return lplb::testing::run_main(argc, argv, lplb::run_scenario); }
