// SPDX-License-Identifier: MIT
#include <chrono>
#include <cstdio>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>

#include "bench/cuda_bench.h"
#include "bench/graph_timer.h"
#include "bench/plan_batch.h"
#include "exchange/peer/memory.h"
#include "exchange/peer/round.cuh"
#include "lplb/device_planner.h"
#include "plan/device/image.h"
#include "support/device_vector.h"
#include "support/instances.h"

// Benchmarks of the exchange by itself and within the plan's kernel. All ranks are on one device,
// so the times include everything but NVLink.
namespace lplb::bench {
namespace {

constexpr int kRounds = 50;  // rounds of a graph
constexpr int kReplays = 200;
constexpr int kWarmUp = 300;
constexpr Index kTopk = 8;
constexpr int kPeerThreads = 512;
constexpr Index kMostRanks = 16;
constexpr std::chrono::milliseconds kDeadline(20);

struct PeersArgs {
  exchange::PeerArgs rank[kMostRanks];
  int num_counts;
  unsigned long long fingerprint;
  long long rounds;
};

__host__ __device__ int count_of(int column) { return 10 * column; }

/// Runs all ranks but rank 0 for many rounds, each in one block. They are always a round ahead of
/// rank 0, so that rank 0 waits only for its own part. (With one kernel for each rank, the
/// benchmark would measure how many kernels one GPU can start in a second.)
__global__ void __launch_bounds__(kPeerThreads)
    peers_kernel(const __grid_constant__ PeersArgs args) {
  __shared__ exchange::PeerRound::SharedVerdict verdict;
  for (long long i = 0; i < args.rounds; ++i) {
    exchange::PeerRound round(args.rank[blockIdx.x + 1], verdict, 0, 1);
    if (threadIdx.x == 0) verdict = {};
    round.begin();
    __syncthreads();
    round.push(args.num_counts, args.fingerprint, count_of);
    round.gather(args.num_counts, args.fingerprint, [](int, int, int) {});
    __syncthreads();
    if (round.verdict() != 0) return;  // rank 0 is late, and will report it
    if (threadIdx.x == 0) round.finish();
    __syncthreads();
  }
}

/// A group in which all ranks but rank 0 are one kernel.
class VirtualPeers {
 public:
  VirtualPeers(Index num_ranks, std::size_t num_counts, unsigned long long fingerprint)
      : groups_(PeerGroup::in_process(std::vector<int>(static_cast<std::size_t>(num_ranks), 0),
                                      {.max_counts = num_counts, .deadline = kDeadline})),
        first(groups_[0].channel(0)) {
    for (std::size_t g = 1; g < groups_.size(); ++g) {
      others_.push_back(groups_[g].channel(0));
      args_.rank[g] = *exchange::peer_args(*others_.back());
    }
    args_.num_counts = static_cast<int>(num_counts);
    args_.fingerprint = fingerprint;
    args_.rounds = static_cast<long long>(kRounds) * (kReplays + kWarmUp);
  }

  void start() {
    peers_kernel<<<static_cast<unsigned>(others_.size()), kPeerThreads, 0, stream_.get()>>>(args_);
    LPLB_CUDA_CHECK(cudaGetLastError());
  }
  void wait() const { LPLB_CUDA_CHECK(cudaStreamSynchronize(stream_.get())); }
  std::size_t bytes() const { return groups_[0].bytes(); }

 private:
  std::vector<PeerGroup> groups_;
  std::vector<std::shared_ptr<DeviceExchange>> others_;
  PeersArgs args_{};
  device::Stream stream_;

 public:
  const std::shared_ptr<DeviceExchange> first;
};

CudaTiming time_gather(Index num_ranks, std::size_t num_counts) {
  VirtualPeers peers(num_ranks, num_counts, 0);
  std::vector<std::int32_t> row(num_counts);
  for (std::size_t c = 0; c < num_counts; ++c) row[c] = count_of(static_cast<int>(c));
  std::vector<std::int32_t> want;
  for (Index g = 0; g < num_ranks; ++g) want.insert(want.end(), row.begin(), row.end());
  const testing::DeviceVector<std::int32_t> mine(row);
  const testing::DeviceVector<std::int32_t> all(std::vector<std::int32_t>(want.size(), -1));
  GraphTimer timer;
  CudaTiming timing = summarize(timer.times_us(
      [&] {
        peers.first->all_gather(timer.stream(),
                                {.mine = mine.data(), .all = all.data(), .num_counts = num_counts});
      },
      kRounds, kReplays, kWarmUp, [&] { peers.start(); }));
  peers.wait();
  const DeviceExchangeStats stats = peers.first->stats(timer.stream());
  if (stats.complete() != stats.rounds || all.get() != want) {
    throw std::runtime_error("a round was not complete");
  }
  timing.note = std::to_string(peers.bytes()) + " bytes a rank";
  return timing;
}

/// Times rank 0's plan, and compares it with the time of a plan that is given the same counts and
/// has no staleness.
CudaTiming time_plan(std::int64_t num_tokens, Index staleness) {
  const testing::Workload workload = testing::make_workload("cube8x2", 1);
  const Placement& p = workload.placement;
  const PackedLayout layout(p);
  plan::Image image;
  image.assign(p, Solver::kCut, p.num_ranks);
  VirtualPeers peers(p.num_ranks, layout.size(), image.fingerprint());
  PlannerOptions options{.max_tokens = num_tokens, .num_topk = kTopk};
  DevicePlanner given(p, 0, options);
  options.staleness = staleness;
  DevicePlannerOptions on_device;
  on_device.exchange = peers.first;
  DevicePlanner exchanged(p, 0, options, on_device);
  const PlanBatch drawn(p, workload.loads[0], num_tokens, 0);
  std::vector<std::int32_t> rows;
  for (Index g = 0; g < p.num_ranks; ++g) {
    for (std::size_t c = 0; c < layout.size(); ++c) rows.push_back(count_of(static_cast<int>(c)));
  }
  const testing::DeviceVector<std::int32_t> topk(drawn.topk), packed(rows), out(drawn.topk);
  DeviceBatch batch;
  batch.topk_idx = topk.data();
  batch.num_tokens = num_tokens;
  batch.physical_idx = out.data();
  DeviceBatch batch_given = batch;
  batch_given.all_counts = packed.data();

  GraphTimer timer;
  const auto time = [&](DevicePlanner& planner, const DeviceBatch& work,
                        const std::function<void()>& begin) {
    return summarize(timer.times_us([&] { planner.run(timer.stream(), work); }, kRounds, kReplays,
                                    kWarmUp, begin));
  };
  const double given_us = time(given, batch_given, [] {}).median_us;
  if (staleness != 0) {
    // The previous batch is always this one, so its counts go into this rank's row of the given
    // counts.
    given.count(timer.stream(), batch, packed.data());
    DevicePlanner model(p, 0, options);
    for (int i = 0; i < 2; ++i) model.run(timer.stream(), batch_given);
    LPLB_CUDA_CHECK(cudaStreamSynchronize(timer.stream()));
  }
  const std::vector<std::int32_t> want = out.get();
  CudaTiming timing = time(exchanged, batch, [&] { peers.start(); });
  peers.wait();
  if (exchanged.stats(timer.stream()).lost != 0 || out.get() != want) {
    throw std::runtime_error("a batch is not mapped as with the counts given");
  }
  char note[96];
  std::snprintf(note, sizeof(note), "%d SMs; given %.3f, the exchange adds %.3f",
                exchanged.num_blocks(num_tokens), given_us, timing.median_us - given_us);
  timing.note = note;
  return timing;
}

void add_exchanges(const std::vector<Case>& cases, std::vector<CudaBenchmark>& benchmarks) {
  for (const Case& c : cases) {
    if (c.name != "cube8x2") continue;  // run once, even if there are traces
    for (const Index num_ranks : {2, 4, 8, 16}) {
      benchmarks.push_back(
          {"exchange/" + std::to_string(num_ranks) + "x24", {3.5}, {2.2}, [num_ranks] {
             return time_gather(num_ranks, 24);
           }});
    }
    benchmarks.push_back({"exchange/8x256", {}, {}, [] { return time_gather(8, 256); }});
    for (const std::int64_t tokens : {128, 4096}) {
      const std::string name = "exchange/plan/cube8x2/" + std::to_string(tokens);
      benchmarks.push_back({name, {}, {}, [tokens] { return time_plan(tokens, 0); }});
      benchmarks.push_back({name + "/stale", {}, {}, [tokens] { return time_plan(tokens, 1); }});
    }
  }
}

[[maybe_unused]] const bool registered = (cuda_suites().push_back(add_exchanges), true);

}  // namespace
}  // namespace lplb::bench
