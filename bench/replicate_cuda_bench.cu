// SPDX-License-Identifier: MIT
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

#include "bench/cuda_bench.h"
#include "bench/graph_timer.h"
#include "lplb/device_replicator.h"

// Benchmarks of copies for each batch on the device: DeviceReplicator::run(), replayed in a graph.
// Experts are in order on R ranks, without static replicas, unless a row says "replicas" or
// "4-domains". In "speeds" every other rank has 0.8 of the speed.
namespace lplb::bench {
namespace {

constexpr int kBatches = 200;

struct Shape {
  const char* shape;
  CudaTarget must, aim;
};
constexpr Shape kShapes[] = {{"cube8x2", {6, 0}, {4, 0}},
                             {"hypercube16x2", {8, 0}, {5, 0}},
                             {"EP32+32", {12, 0}, {7, 0}},
                             {"EP64+64", {20, 0}, {10, 0}}};

/// Times batch after batch. Throws unless every plan has the CPU's copies and largest load.
CudaTiming time_plans(const testing::Workload& workload, const Placement& placement,
                      const ReplicateOptions& options) {
  GraphTimer timer;
  DeviceReplicator device(placement, options);
  Replicator cpu(placement, options);
  Replication want;
  const auto experts = static_cast<std::size_t>(placement.num_logical_experts);
  const auto dynamic = static_cast<std::size_t>(placement.num_ranks * options.dynamic_slots);
  device::Array<std::int32_t> load(experts), slot_expert(dynamic), slot_source(dynamic),
      physical_load(dynamic + placement.physical_to_logical.size());
  device::Array<ReplicationSummary> summary(1);
  std::vector<double> times;
  int optimal = 0;
  for (const std::vector<Load>& batch : workload.loads) {
    const std::vector<std::int32_t> narrow(batch.begin(), batch.end());
    LPLB_CUDA_CHECK(cudaMemcpy(load.get(), narrow.data(), experts * sizeof(std::int32_t),
                               cudaMemcpyHostToDevice));
    times.push_back(timer.time_us([&] {
      device.run(timer.stream(), load.get(),
                 {.slot_expert = slot_expert.get(),
                  .slot_source = slot_source.get(),
                  .physical_load = physical_load.get(),
                  .summary = summary.get()});
    }));
    cpu.run(batch, want);
    std::vector<std::int32_t> copies(dynamic);
    ReplicationSummary got{};
    LPLB_CUDA_CHECK(cudaMemcpy(copies.data(), slot_expert.get(), dynamic * sizeof(std::int32_t),
                               cudaMemcpyDeviceToHost));
    LPLB_CUDA_CHECK(cudaMemcpy(&got, summary.get(), sizeof(got), cudaMemcpyDeviceToHost));
    if (copies != want.slot_expert || got.max_load != want.max_level.tokens) {
      throw std::runtime_error("a plan is not that of the CPU");
    }
    optimal += got.status == ReplicationStatus::kOptimal ? 1 : 0;
  }
  CudaTiming timing = summarize(std::move(times));
  timing.note = std::to_string(optimal) + "/" + std::to_string(timing.num_times) + " optimal";
  return timing;
}

CudaTiming time_case(const Case& c, const ReplicateOptions& options, bool with_replicas,
                     double odd_speed) {
  const testing::Workload workload = std::move(c.make(kBatches)[0]);
  if (with_replicas) return time_plans(workload, workload.placement, options);
  PlacementOptions ranks;
  for (Index g = 0; g < workload.placement.num_ranks; ++g) {
    ranks.rank_speed.push_back(g % 2 == 0 ? 1 : odd_speed);
  }
  std::vector<Index> homes(static_cast<std::size_t>(workload.placement.num_logical_experts));
  std::iota(homes.begin(), homes.end(), 0);
  return time_plans(workload,
                    make_placement(workload.placement.num_ranks,
                                   workload.placement.num_logical_experts, homes, ranks),
                    options);
}

void add_copies(const std::vector<Case>& cases, std::vector<CudaBenchmark>& benchmarks) {
  for (const Case& c : cases) {
    for (const Shape& shape : kShapes) {
      if (!is_shape(c, shape.shape)) continue;
      const auto add = [&](const std::string& what, const ReplicateOptions& options,
                           bool with_replicas, CudaTarget must, CudaTarget aim,
                           double odd_speed = 1) {
        benchmarks.push_back({"replicate/" + c.name + what, must, aim,
                              [=] { return time_case(c, options, with_replicas, odd_speed); }});
      };
      add("", {}, false, shape.must, shape.aim);
      if (!is_hard(c)) continue;
      add("/2-slots", {.dynamic_slots = 2}, false, {}, {});
      add("/target-1.05", {.target = 1.05}, false, {}, {});
      add("/replicas", {}, true, {}, {});
      // An expert of DeepSeek-V3 in bfloat16 on an H200, half of it hidden behind other work.
      ReplicateOptions with_cost;
      with_cost.cost = {
          .us_per_token = 0.126, .expert_bytes = 88e6, .gigabytes_per_s = 400, .hidden_us = 110};
      add("/cost", with_cost, false, {}, {});
      add("/speeds", {}, false, {}, {}, 0.8);
      add("/4-domains", {.num_domains = 4}, true, {}, {});
    }
  }
}

[[maybe_unused]] const bool registered = (cuda_suites().push_back(add_copies), true);

}  // namespace
}  // namespace lplb::bench
