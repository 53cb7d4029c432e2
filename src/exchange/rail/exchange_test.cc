// SPDX-License-Identifier: MIT
#include "exchange/rail/exchange.h"

#include <gmock/gmock.h>

#include <thread>

#include "lplb/error.h"
#include "support/expect_refused.h"
#include "support/thread_gather.h"

// Tests that need no device: the arguments, and that all ranks are told if one of them fails.
namespace lplb {
namespace {

using testing::expect_refused;
using testing::ThreadGather;

TEST(RailOptions, WhatDoesNotFitIsRefused) {
  const AllGatherBytes gather = [](std::span<const std::byte>) {
    return std::vector<std::vector<std::byte>>();
  };
  const RailOptions good{.domain = 1, .num_domains = 2, .max_counts = 24};
  exchange::check_rail(good, nullptr, gather);
  const auto refuse = [&](auto change, const char* problem) {
    RailOptions options = good;
    change(options);
    expect_refused([&] { exchange::check_rail(options, nullptr, gather); }, problem);
  };
  refuse([](RailOptions& o) { o.num_domains = 0; }, "num_domains: 0 is not between 1 and 1024");
  refuse([](RailOptions& o) { o.domain = 2; }, "domain: 2 is not between 0 and 1");
  refuse([](RailOptions& o) { o.domain = -1; }, "domain: -1 is not between 0 and 1");
  refuse([](RailOptions& o) { o.max_counts = 0; }, "max_counts: 0 is not between 1 and");
  refuse([](RailOptions& o) { o.deadline = std::chrono::microseconds(0); },
         "deadline: 0 us is not");
  expect_refused([&] { exchange::check_rail(good, nullptr, AllGatherBytes()); },
                 "all_gather: is empty");
}

TEST(RailOptions, BytesAreThoseOfTheLayout) {
  const RailOptions options{.domain = 0, .num_domains = 4, .max_counts = 24};
  const exchange::RailLayout layout = exchange::layout_of(options);
  // For each of 4 domains, 2 halves of 13 lines come and 2 halves of 13 lines go. After them are 4
  // signals.
  EXPECT_EQ(layout.lines.lines(1, 3), 256 + (4 + 3) * 13 * 16);
  EXPECT_EQ(layout.to_send(0, 0), exchange::ExchangeLayout::aligned(256 + 2 * 4 * 13 * 16));
  EXPECT_EQ(layout.to_send(1, 3), layout.to_send(0, 0) + (4 + 3) * 13 * 16);
  EXPECT_EQ(layout.signals(), layout.to_send(1, 3) + 13 * 16);
  EXPECT_EQ(rail_buffer_bytes(options), static_cast<std::size_t>(layout.bytes()));
  EXPECT_GE(layout.bytes(), layout.signals() + 4 * 8);
  EXPECT_THROW(rail_buffer_bytes({.domain = 0, .num_domains = 0, .max_counts = 24}), ArgumentError);
  EXPECT_THROW(rail_buffer_bytes({.domain = 0, .num_domains = 4, .max_counts = 0}), ArgumentError);
}

/// Memory of which one step fails, or none.
class FailingMemory : public exchange::RailMemory {
 public:
  enum class Step { kNone, kOffer, kAccept };
  explicit FailingMemory(Step step) : step_(step) {}

  exchange::Agreement::Bytes offer() override {
    if (step_ == Step::kOffer) throw ExchangeError("no network");
    return {};
  }
  void accept(const std::vector<exchange::Agreement::Bytes>&) override {
    throw ExchangeError(step_ == Step::kAccept ? "no memory" : "unreached");
  }
  unsigned char* own() const override { return nullptr; }
  void prepare() const override {}
  void launch(const exchange::RailArgs&, StreamHandle) const override {}

 private:
  Step step_;
};

/// The error that each of three ranks gets. `connect(rank, gather)` throws.
template <class Connect>
std::vector<std::string> told(Connect connect) {
  constexpr Index kRanks = 3;
  ThreadGather gather(kRanks);
  std::vector<std::string> said(kRanks);
  std::vector<std::thread> threads;
  for (Index g = 0; g < kRanks; ++g) {
    threads.emplace_back([&, g] {
      try {
        connect(g, gather.of_rank(g));
      } catch (const ExchangeError& error) {
        said[static_cast<std::size_t>(g)] = error.what();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  return said;
}

TEST(ConnectRail, WhereOneRankFailsAllAreToldWhichAndWhy) {
  using Step = FailingMemory::Step;
  const std::vector<std::pair<Step, const char*>> cases = {{Step::kOffer, "rank 1: no network"},
                                                           {Step::kAccept, "rank 0: unreached"}};
  for (const auto& [step, problem] : cases) {
    const auto said = told([failing = step](Index g, const AllGatherBytes& gather) {
      exchange::connect_rail({.domain = g, .num_domains = 3, .max_counts = 8}, nullptr, gather,
                             std::make_unique<FailingMemory>(g == 1 ? failing : Step::kNone));
    });
    EXPECT_THAT(said, ::testing::Each(std::string("no exchange along the rail: ") + problem));
  }
}

TEST(ConnectRail, RanksThatDisagreeAreAllRefused) {
  const auto said = told([](Index g, const AllGatherBytes& gather) {
    const std::size_t max_counts = g == 2 ? 9 : 8;
    exchange::connect_rail({.domain = g, .num_domains = 3, .max_counts = max_counts}, nullptr,
                           gather, std::make_unique<FailingMemory>(FailingMemory::Step::kNone));
  });
  EXPECT_THAT(said, ::testing::Each("rank 2 connects 3 domains, max_counts 9; rank 0 3 domains, "
                                    "max_counts 8"));
}

}  // namespace
}  // namespace lplb
