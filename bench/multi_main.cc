// SPDX-License-Identifier: MIT
#include <chrono>
#include <cstdio>
#include <memory>
#include <stdexcept>
#include <string>

#include "bench/busy_kernel.h"
#include "bench/multi_bench.h"
#include "bench/plan_batch.h"
#include "exchange/libraries/nccl_test_comm.h"
#include "lplb/device_planner.h"

// lplb_multi_bench [NUM_GPUS]: measures the exchange over NVLink, with one process for each GPU: by
// itself, compared with NCCL's collectives of the same number of counts, and within the plan.
namespace lplb::bench {
namespace {

using testing::DeviceVector;
using testing::ProcessGroup;

/// An NCCL communicator, with the all-reduce that only this file calls.
class NcclGroup {
 public:
  explicit NcclGroup(ProcessGroup& group) : comm_(group) {
    all_reduce_ = library_.get<int(const void*, void*, std::size_t, int, int, void*, cudaStream_t)>(
        "ncclAllReduce");
  }

  void* comm() const { return comm_.get(); }
  void all_reduce(const void* from, void* to, std::size_t count, cudaStream_t stream) const {
    constexpr int kSum = 0;
    exchange::NcclLibrary::get().check(
        all_reduce_(from, to, count, exchange::NcclLibrary::kInt32, kSum, comm(), stream),
        "ncclAllReduce");
  }

 private:
  exchange::SharedLibrary library_{"libnccl.so.2"};
  testing::NcclComm comm_;
  int (*all_reduce_)(const void*, void*, std::size_t, int, int, void*, cudaStream_t) = nullptr;
};

/// The benchmarks, as the process of one rank runs them.
class Bench : public MultiBench {
 public:
  using MultiBench::MultiBench;

  void run() {
    say_head();
    std::unique_ptr<NcclGroup> nccl;
    if (exchange::NcclLibrary::get().missing.empty()) nccl = std::make_unique<NcclGroup>(group_);
    for (const std::size_t counts : {24, 128, 256}) {
      const auto exchange = connect();
      time_exchange("exchange alone", *exchange, counts, transport_);
    }
    if (nccl != nullptr) {
      time_nccl(*nccl);
    } else {
      say("NCCL: %s\n", exchange::NcclLibrary::get().missing.c_str());
    }
    for (const std::int64_t tokens : {128, 4096}) {
      time_plan(tokens, "given", nullptr, true);
      time_plan(tokens, "exchanged", connect(), false);
      if (nccl != nullptr) time_plan(tokens, "by NCCL between kernels", by_nccl(*nccl), false);
    }
    report("other work alone", time_graphs([&] { launch_busy(kWork, timer_.stream()); }));
    for (const std::int64_t tokens : {128, 4096}) {
      time_beside_work(tokens, "exchanged", connect(), 0);
      time_beside_work(tokens, "exchanged, staleness 1", connect(), 1);
      if (nccl == nullptr) continue;
      time_beside_work(tokens, "by NCCL", by_nccl(*nccl), 0);
      time_beside_work(tokens, "by NCCL, staleness 1", by_nccl(*nccl), 1);
    }
    group_.barrier();
  }

 private:
  static constexpr std::size_t kMostCounts = 256;
  static constexpr int kWork = 50;  // microseconds

  std::shared_ptr<DeviceExchange> connect() {
    PeerGroup peers = PeerGroup::connect(rank_, num_ranks_, gather(), {.max_counts = kMostCounts});
    transport_ = transport_name(peers.transport());
    return peers.channel(0);
  }

  static std::shared_ptr<DeviceExchange> by_nccl(const NcclGroup& nccl) {
    return make_nccl_exchange(nccl.comm(), kMostCounts);
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
    const std::string note = "NCCL " + exchange::NcclLibrary::get().version_text();
    report("ncclAllGather, 256 counts", time_graphs(all_gather), note);
    report("ncclAllGather, 256 counts, eager", time_eager(all_gather), note);
    report("ncclAllReduce, 256 counts", time_graphs(all_reduce), note);
    report("ncclAllReduce, 256 counts, eager", time_eager(all_reduce), note);
  }

  /// 256 experts. The 16 redundants of each rank copy the first experts of the next rank.
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

  /// A rank's planner, and a batch that it plans.
  struct Work {
    Work(const Placement& p, Index rank, std::int64_t tokens,
         std::shared_ptr<DeviceExchange> exchange, Index staleness)
        : planner(p, rank,
                  {.max_tokens = tokens, .num_topk = PlanBatch::kTopk, .staleness = staleness},
                  {.exchange = std::move(exchange)}) {
      std::vector<Load> popularity(static_cast<std::size_t>(p.num_logical_experts));
      for (std::size_t e = 0; e < popularity.size(); ++e) {
        popularity[e] = static_cast<Load>(1000 / (1 + e % 32));
      }
      const PlanBatch drawn(p, popularity, tokens, static_cast<std::uint64_t>(rank));
      topk.set(drawn.topk);
      packed.set(drawn.packed);
      out.set(drawn.topk);
      batch.topk_idx = topk.data();
      batch.num_tokens = tokens;
      batch.physical_idx = out.data();
    }

    void expect_optimal(const std::string& name, cudaStream_t stream) {
      const DevicePlannerStats stats = planner.stats(stream);
      if (stats.optimal + stats.unplanned != stats.batches || stats.unplanned > 1) {
        throw std::runtime_error(name + ": not all are optimal");
      }
    }

    DevicePlanner planner;
    DeviceVector<std::int32_t> topk, packed, out;
    DeviceBatch batch;
  };

  void time_plan(std::int64_t tokens, const std::string& how,
                 std::shared_ptr<DeviceExchange> exchange, bool given) {
    Work work(placement(), rank_, tokens, std::move(exchange), 0);
    if (given) work.batch.all_counts = work.packed.data();
    double host_us = 0;
    int calls = 0;
    const auto run = [&] {
      const auto start = std::chrono::steady_clock::now();
      work.planner.run(timer_.stream(), work.batch);
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
    work.expect_optimal(name, timer_.stream());
    group_.barrier();
  }

  /// Times batches with other work between them. With staleness the exchange can run in parallel
  /// with that work.
  void time_beside_work(std::int64_t tokens, const std::string& how,
                        std::shared_ptr<DeviceExchange> exchange, Index staleness) {
    Work work(placement(), rank_, tokens, std::move(exchange), staleness);
    const std::string name = "plan and work, " + std::to_string(tokens) + " x 8, " + how;
    report(name, time_graphs([&] {
             work.planner.run(timer_.stream(), work.batch);
             launch_busy(kWork, timer_.stream());
             work.planner.join(timer_.stream());
           }));
    work.expect_optimal(name, timer_.stream());
    group_.barrier();
  }

  std::string transport_;
};

}  // namespace
}  // namespace lplb::bench

int main(int argc, char** argv) {
  return lplb::bench::run_multi_bench<lplb::bench::Bench>(argc, argv);
}
