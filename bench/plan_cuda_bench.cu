// SPDX-License-Identifier: MIT
#include <algorithm>
#include <memory>
#include <numeric>
#include <stdexcept>

#include "bench/cuda_bench.h"
#include "bench/graph_timer.h"
#include "lplb/device_planner.h"
#include "support/device_vector.h"
#include "support/instances.h"

// One rank's plan on the device, all counts given: DevicePlanner::run(), replayed in a graph.
namespace lplb::bench {
namespace {

constexpr int kBatches = 60;
constexpr Index kTopk = 8;

struct PlanCase {
  const char* workload;
  std::int64_t num_tokens;
  PlanShape shape;
  double must_us, aim_us;
};

/// Rank 0's tokens, drawn with a batch's popularity, and what every rank counted.
struct PlanBatch {
  std::vector<std::int32_t> topk;
  std::vector<Load> counts;
  std::vector<std::int32_t> packed;

  PlanBatch(const Placement& p, const std::vector<Load>& popularity, std::int64_t num_tokens,
            std::uint64_t seed) {
    std::vector<Load> until(popularity.size());
    std::partial_sum(popularity.begin(), popularity.end(), until.begin());
    testing::SplitMix64 random(seed);
    topk.resize(static_cast<std::size_t>(num_tokens * kTopk));
    for (std::int32_t& id : topk) {
      const Load at = random.between(1, until.back());
      id = static_cast<std::int32_t>(std::lower_bound(until.begin(), until.end(), at) -
                                     until.begin());
    }
    const PackedLayout layout(p);
    std::vector<Load> row(popularity.size()), own(layout.size());
    for (Index g = 0; g < p.num_ranks; ++g) {
      if (g == 0) {
        count_tokens(topk, row);
      } else {
        std::transform(popularity.begin(), popularity.end(), row.begin(),
                       [&](Load w) { return w * num_tokens * kTopk / until.back(); });
      }
      counts.insert(counts.end(), row.begin(), row.end());
      layout.pack(row, own);
      packed.insert(packed.end(), own.begin(), own.end());
    }
  }
};

/// What the CPU's planner maps.
std::vector<std::int32_t> map_on_cpu(const Placement& p, const PlannerOptions& options,
                                     const PlanBatch& batch) {
  auto given = std::make_shared<GivenCounts>(p.num_ranks, 0);
  given->set(batch.counts, p.num_logical_experts);
  Planner planner(p, 0, options, given);
  std::vector<std::int32_t> out(batch.topk.size());
  planner.run(batch.topk, out);
  return out;
}

CudaTiming time_plan(const PlanCase& c) {
  const testing::Workload workload = testing::make_workload(c.workload, kBatches);
  const Placement& p = workload.placement;
  PlannerOptions options;
  options.max_tokens = c.num_tokens;
  options.num_topk = kTopk;
  DevicePlanner planner(p, 0, options, {.shape = c.shape});
  GraphTimer timer;
  testing::DeviceVector<std::int32_t> topk, packed, out;
  std::vector<double> times;
  for (int i = 0; i < kBatches; ++i) {
    const PlanBatch batch(p, workload.loads[static_cast<std::size_t>(i)], c.num_tokens,
                          static_cast<std::uint64_t>(i));
    topk.set(batch.topk);
    packed.set(batch.packed);
    out.set(std::vector<std::int32_t>(batch.topk.size(), -77));
    DeviceBatch work;
    work.topk_idx = topk.data();
    work.num_tokens = c.num_tokens;
    work.physical_idx = out.data();
    work.all_counts = packed.data();
    times.push_back(timer.time_us([&] { planner.run(timer.stream(), work); }));
    if (out.get() != map_on_cpu(p, options, batch)) {
      throw std::runtime_error("a batch is not mapped as on the CPU");
    }
  }
  const DevicePlannerStats stats = planner.stats(timer.stream());
  CudaTiming timing = summarize(std::move(times));
  timing.note = std::to_string(planner.num_blocks(c.num_tokens)) + " SMs, " +
                std::to_string(stats.optimal) + "/" + std::to_string(stats.batches) + " optimal";
  return timing;
}

bool register_all() {
  for (const PlanCase& c : {PlanCase{"cube8x2", 4096, PlanShape::kCluster, 10, 6.5},
                            {"cube8x2", 4096, PlanShape::kKernels, 10, 6.5},
                            {"cube8x2", 128, PlanShape::kCluster, 8, 5},
                            {"cube8x2", 128, PlanShape::kKernels, 8, 5},
                            {"EP64+64", 16384, PlanShape::kCluster, 18, 12},
                            {"EP64+64", 16384, PlanShape::kKernels, 18, 12},
                            {"hypercube16x2", 4096, PlanShape::kCluster, 0, 0},
                            {"torus8x4x2", 4096, PlanShape::kCluster, 0, 0},
                            {"EP64+64", 4096, PlanShape::kCluster, 0, 0},
                            {"EP64+64", 128, PlanShape::kCluster, 0, 0},
                            {"EP128+128", 4096, PlanShape::kCluster, 0, 0},
                            {"EP128+128", 4096, PlanShape::kKernels, 0, 0}}) {
    const std::string shape = c.shape == PlanShape::kCluster ? "/cluster" : "/kernels";
    cuda_benchmarks().push_back(
        {"plan/" + std::string(c.workload) + "/" + std::to_string(c.num_tokens) + shape, c.must_us,
         c.aim_us, [c] { return time_plan(c); }});
  }
  return true;
}

[[maybe_unused]] const bool registered = register_all();

}  // namespace
}  // namespace lplb::bench
