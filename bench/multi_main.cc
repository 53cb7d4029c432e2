// SPDX-License-Identifier: MIT
#include <chrono>
#include <cstdio>
#include <cstring>
#include <exception>
#include <functional>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <string>

#include "bench/cuda_bench.h"
#include "bench/graph_timer.h"
#include "bench/plan_batch.h"
#include "exchange/nccl_library.h"
#include "exchange/shared_library.h"
#include "lplb/backend.h"
#include "lplb/device_planner.h"
#include "support/device_vector.h"
#include "support/process_group.h"

// lplb_multi_bench [NUM_GPUS]: the exchange over NVLink, one process a GPU: by itself, beside
// NCCL's collectives of as many counts, and within the plan. Rank 0 prints.
namespace lplb::bench {
namespace {

constexpr int kRounds = 20;    // of a graph
constexpr int kReplays = 500;  // 10,000 rounds
using testing::DeviceVector;
using testing::ProcessGroup;

/// NCCL's all-reduce is called here alone.
class NcclGroup {
 public:
  explicit NcclGroup(ProcessGroup& group)
      : nccl_(NcclLibrary::require()), library_("libnccl.so.2") {
    struct UniqueId {
      char bytes[128];
    };
    UniqueId id{};
    if (group.rank() == 0) {
      nccl_.check(library_.get<int(UniqueId*)>("ncclGetUniqueId")(&id), "ncclGetUniqueId");
    }
    const auto all = group.all_gather(std::as_bytes(std::span(&id, 1)));
    std::memcpy(&id, all[0].data(), sizeof(id));
    nccl_.check(library_.get<int(void**, int, UniqueId, int)>("ncclCommInitRank")(
                    &comm_, group.num_ranks(), id, group.rank()),
                "ncclCommInitRank");
    all_reduce_ = library_.get<int(const void*, void*, std::size_t, int, int, void*, cudaStream_t)>(
        "ncclAllReduce");
  }
  ~NcclGroup() { (void)library_.get<int(void*)>("ncclCommDestroy")(comm_); }
  NcclGroup(const NcclGroup&) = delete;
  NcclGroup& operator=(const NcclGroup&) = delete;

  void* comm() const { return comm_; }
  std::string version() const { return nccl_.version_text(); }
  void all_reduce(const void* from, void* to, std::size_t count, cudaStream_t stream) const {
    constexpr int kSum = 0;
    nccl_.check(all_reduce_(from, to, count, NcclLibrary::kInt32, kSum, comm_, stream),
                "ncclAllReduce");
  }

 private:
  const NcclLibrary& nccl_;
  SharedLibrary library_;
  void* comm_ = nullptr;
  int (*all_reduce_)(const void*, void*, std::size_t, int, int, void*, cudaStream_t) = nullptr;
};

/// Of a rank's process.
class Bench {
 public:
  explicit Bench(ProcessGroup& group)
      : group_(group),
        rank_(static_cast<Index>(group.rank())),
        num_ranks_(static_cast<Index>(group.num_ranks())) {}

  void run() {
    say("%s, %d ranks, a process each; us, %d rounds\n", cuda_support().devices[0].name.c_str(),
        num_ranks_, kRounds * kReplays);
    say("%-34s %10s %10s  %s\n", "what", "median", "p99", "note");
    std::unique_ptr<NcclGroup> nccl;
    if (NcclLibrary::get().missing.empty()) nccl = std::make_unique<NcclGroup>(group_);
    for (const std::size_t counts : {24, 128, 256}) time_gather(counts);
    if (nccl != nullptr) {
      time_nccl(*nccl);
    } else {
      say("NCCL: %s\n", NcclLibrary::get().missing.c_str());
    }
    for (const std::int64_t tokens : {128, 4096}) {
      time_plan(tokens, "given", nullptr, true);
      time_plan(tokens, "exchanged", connect(), false);
      if (nccl != nullptr) {
        time_plan(tokens, "by NCCL between kernels", make_nccl_exchange(nccl->comm(), kMostCounts),
                  false);
      }
    }
    group_.barrier();
  }

 private:
  static constexpr std::size_t kMostCounts = 256;

  template <class... Args>
  void say(const char* format, Args... args) const {
    if (rank_ != 0) return;
    std::printf(format, args...);
    std::fflush(stdout);
  }
  void report(const std::string& what, std::vector<double> times, const std::string& note = "") {
    const CudaTiming t = summarize(std::move(times));
    say("%-34s %10.3f %10.3f  %s\n", what.c_str(), t.median_us, t.p99_us, note.c_str());
  }

  std::shared_ptr<DeviceExchange> connect() {
    PeerGroup peers = PeerGroup::connect(
        rank_, num_ranks_,
        [this](std::span<const std::byte> mine) { return group_.all_gather(mine); },
        {.max_counts = kMostCounts});
    transport_ = transport_name(peers.transport());
    return peers.channel(0);
  }

  /// Median and p99 of graphs; ranks start together, and go on together since they exchange.
  std::vector<double> time_graphs(const std::function<void()>& launch) {
    group_.barrier();
    // NOTE: a fixed number of replays, warm-up too: the ranks' rounds belong together.
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

  void time_gather(std::size_t counts) {
    const auto exchange = connect();
    const DeviceVector<std::int32_t> mine(std::vector<std::int32_t>(counts, rank_));
    const DeviceVector<std::int32_t> all(
        std::vector<std::int32_t>(counts * static_cast<std::size_t>(num_ranks_), -1));
    const auto round = [&] {
      exchange->all_gather(timer_.stream(),
                           {.mine = mine.data(), .all = all.data(), .num_counts = counts});
    };
    const std::string name = "exchange alone, " + std::to_string(counts) + " counts";
    report(name, time_graphs(round), transport_);
    report(name + ", eager", time_eager(round), transport_);
    const DeviceExchangeStats stats = exchange->stats(timer_.stream());
    if (stats.complete() != stats.rounds) throw std::runtime_error("a round was not complete");
    group_.barrier();
  }

  void time_nccl(const NcclGroup& nccl) {
    const DeviceVector<std::int32_t> mine(std::vector<std::int32_t>(kMostCounts, 1));
    const DeviceVector<std::int32_t> all(
        std::vector<std::int32_t>(kMostCounts * static_cast<std::size_t>(num_ranks_)));
    const auto gather = make_nccl_exchange(nccl.comm(), kMostCounts);
    const auto all_gather = [&] {
      gather->all_gather(timer_.stream(),
                         {.mine = mine.data(), .all = all.data(), .num_counts = kMostCounts});
    };
    const auto all_reduce = [&] {
      nccl.all_reduce(mine.data(), all.data(), kMostCounts, timer_.stream());
    };
    const std::string note = "NCCL " + nccl.version();
    report("ncclAllGather, 256 counts", time_graphs(all_gather), note);
    report("ncclAllGather, 256 counts, eager", time_eager(all_gather), note);
    report("ncclAllReduce, 256 counts", time_graphs(all_reduce), note);
    report("ncclAllReduce, 256 counts, eager", time_eager(all_reduce), note);
  }

  /// 256 experts, 16 redundants a rank that copy the next rank's first experts.
  Placement placement() const {
    constexpr Index kExperts = 256;
    constexpr Index kRedundants = 16;
    std::vector<Index> map;
    const Index each = kExperts / num_ranks_;
    for (Index g = 0; g < num_ranks_; ++g) {
      for (Index e = 0; e < each; ++e) map.push_back(g * each + e);
      for (Index r = 0; r < kRedundants; ++r) map.push_back((g + 1) % num_ranks_ * each + r);
    }
    return make_placement(num_ranks_, kExperts, map);
  }

  void time_plan(std::int64_t tokens, const std::string& how,
                 std::shared_ptr<DeviceExchange> exchange, bool given) {
    const Placement p = placement();
    PlannerOptions options;
    options.max_tokens = tokens;
    options.num_topk = PlanBatch::kTopk;
    DevicePlannerOptions on_device;
    on_device.exchange = std::move(exchange);
    DevicePlanner planner(p, rank_, options, on_device);
    std::vector<Load> popularity(static_cast<std::size_t>(p.num_logical_experts));
    for (std::size_t e = 0; e < popularity.size(); ++e) {
      popularity[e] = static_cast<Load>(1000 / (1 + e % 32));
    }
    const PlanBatch drawn(p, popularity, tokens, static_cast<std::uint64_t>(rank_));
    const DeviceVector<std::int32_t> topk(drawn.topk), packed(drawn.packed), out(drawn.topk);
    DeviceBatch batch;
    batch.topk_idx = topk.data();
    batch.num_tokens = tokens;
    batch.physical_idx = out.data();
    if (given) batch.all_counts = packed.data();
    double host_us = 0;
    int calls = 0;
    const auto run = [&] {
      const auto start = std::chrono::steady_clock::now();
      planner.run(timer_.stream(), batch);
      host_us += std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start)
                     .count();
      ++calls;
    };
    const std::string name = "plan, " + std::to_string(tokens) + " x 8, " + how;
    report(name, time_graphs(run));
    host_us = 0;
    calls = 0;
    std::vector<double> eager = time_eager(run);
    char note[64];
    std::snprintf(note, sizeof(note), "%.2f us of the host a call", host_us / calls);
    report(name + ", eager", std::move(eager), note);
    const DevicePlannerStats stats = planner.stats(timer_.stream());
    if (stats.optimal != stats.batches) throw std::runtime_error(name + ": not all are optimal");
    group_.barrier();
  }

  ProcessGroup& group_;
  const Index rank_;
  const Index num_ranks_;
  GraphTimer timer_;
  std::string transport_;
};

int run_rank(const testing::ProcessRole& role) {
  ::alarm(150);
  ProcessGroup group(role.rank, role.num_ranks, role.file);
  LPLB_CUDA_CHECK(cudaSetDevice(role.rank));
  Bench(group).run();
  return 0;
}

int run_all(int argc, char** argv) {
  const int num_ranks = argc > 1 ? std::stoi(argv[1]) : 2;
  const int found = static_cast<int>(cuda_support().devices.size());
  if (found < num_ranks) {
    std::printf("skipped: needs %d GPUs, found %d\n", num_ranks, found);
    return 0;
  }
  int worst = 0;
  for (const int status : testing::run_ranks("bench", num_ranks)) worst |= status;
  return worst == 0 ? 0 : 1;
}

}  // namespace
}  // namespace lplb::bench

int main(int argc, char** argv) try {
  const auto role = lplb::testing::ProcessRole::of_this_process();
  return role.scenario.empty() ? lplb::bench::run_all(argc, argv) : lplb::bench::run_rank(role);
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
