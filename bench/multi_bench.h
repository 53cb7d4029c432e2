// SPDX-License-Identifier: MIT
#pragma once

#include <chrono>
#include <cstdio>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "bench/cuda_bench.h"
#include "bench/graph_timer.h"
#include "lplb/backend.h"
#include "lplb/device_exchange.h"
#include "support/device_vector.h"
#include "support/process_group.h"

// Benchmarks with one process for each GPU. Rank 0 prints.
namespace lplb::bench {

class MultiBench {
 public:
  static constexpr int kRounds = 20;    // rounds of a graph
  static constexpr int kReplays = 500;  // 10,000 rounds

  explicit MultiBench(testing::ProcessGroup& group)
      : group_(group),
        rank_(static_cast<Index>(group.rank())),
        num_ranks_(static_cast<Index>(group.num_ranks())) {}

 protected:
  void say_head() const {
    say("%s, %d ranks, a process each; us, %d rounds\n", cuda_support().devices[0].name.c_str(),
        num_ranks_, kRounds * kReplays);
    say("%-46s %10s %10s  %s\n", "what", "median", "p99", "note");
  }
  template <class... Args>
  void say(const char* format, Args... args) const {
    if (rank_ != 0) return;
    std::printf(format, args...);
    std::fflush(stdout);
  }
  void report(const std::string& what, std::vector<double> times,
              const std::string& note = "") const {
    const CudaTiming t = summarize(std::move(times));
    say("%-46s %10.3f %10.3f  %s\n", what.c_str(), t.median_us, t.p99_us, note.c_str());
  }

  AllGatherBytes gather() const {
    return [this](std::span<const std::byte> mine) { return group_.all_gather(mine); };
  }

  /// Times graphs. The ranks start together, and stay together because they exchange.
  std::vector<double> time_graphs(const std::function<void()>& launch) {
    group_.barrier();
    // NOTE: the number of replays is fixed, also for the warm-up, because all ranks must run the
    // same number of rounds.
    return timer_.times_us(launch, kRounds, kReplays, kReplays);
  }
  std::vector<double> time_eager(const std::function<void()>& launch) {
    group_.barrier();
    cudaStream_t stream = timer_.stream();
    std::vector<double> times;
    for (int i = -100; i < kReplays; ++i) {
      const auto start = std::chrono::steady_clock::now();
      for (int round = 0; round < kRounds; ++round) launch();
      LPLB_CUDA_CHECK(cudaStreamSynchronize(stream));
      const std::chrono::duration<double, std::micro> took =
          std::chrono::steady_clock::now() - start;
      if (i >= 0) times.push_back(took.count() / kRounds);
    }
    return times;
  }

  /// Times rounds of `counts` counts for each rank, in graphs and one by one. All must be complete.
  void time_exchange(const std::string& what, DeviceExchange& exchange, std::size_t counts,
                     const std::string& note) {
    const testing::DeviceVector<std::int32_t> mine(std::vector<std::int32_t>(counts, rank_));
    const testing::DeviceVector<std::int32_t> all(
        std::vector<std::int32_t>(counts * static_cast<std::size_t>(num_ranks_), -1));
    const auto round = [&] {
      exchange.all_gather(timer_.stream(),
                          {.mine = mine.data(), .all = all.data(), .num_counts = counts});
    };
    const std::string name = what + ", " + std::to_string(counts) + " counts";
    report(name, time_graphs(round), note);
    report(name + ", eager", time_eager(round), note);
    const DeviceExchangeStats stats = exchange.stats(timer_.stream());
    if (stats.complete() != stats.rounds) throw std::runtime_error("a round was not complete");
    group_.barrier();
  }

  testing::ProcessGroup& group_;
  const Index rank_;
  const Index num_ranks_;
  GraphTimer timer_;
};

/// main() calls this. It starts one rank for each GPU; in the process of a rank it runs the
/// benchmarks.
template <class Bench>
int run_multi_bench(int argc, char** argv) try {
  const auto role = testing::ProcessRole::of_this_process();
  if (!role.scenario.empty()) {
    ::alarm(150);
    testing::ProcessGroup group(role.rank, role.num_ranks, role.file);
    LPLB_CUDA_CHECK(cudaSetDevice(role.rank));
    Bench(group).run();
    return 0;
  }
  const int num_ranks = argc > 1 ? std::stoi(argv[1]) : 2;
  const int found = static_cast<int>(cuda_support().devices.size());
  if (found < num_ranks) {
    std::printf("skipped: needs %d GPUs, found %d\n", num_ranks, found);
    return 0;
  }
  int worst = 0;
  for (const int status : testing::run_ranks("bench", num_ranks)) worst |= status;
  return worst == 0 ? 0 : 1;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}

}  // namespace lplb::bench
