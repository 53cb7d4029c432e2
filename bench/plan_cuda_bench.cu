// SPDX-License-Identifier: MIT
#include <algorithm>
#include <memory>
#include <numeric>
#include <stdexcept>

#include "bench/cuda_bench.h"
#include "bench/graph_timer.h"
#include "bench/plan_batch.h"
#include "lplb/device_planner.h"
#include "support/device_vector.h"
#include "support/instances.h"

// Benchmarks of one rank's plan on the device with all counts given: DevicePlanner::run(), replayed
// in a graph.
namespace lplb::bench {
namespace {

constexpr int kBatches = 60;
constexpr Index kTopk = 8;

/// The cases and sizes that are planned, and what the times should be: `hard` with hard loads.
struct PlanShapeCase {
  const char* shape;
  std::int64_t num_tokens;
  PlanShape launch;
  CudaTarget must, aim, hard_must, hard_aim;
  bool by_cost = false;     ///< what tokens cost on an H200 (data/cost/h200-dsv3-bf16.json)
  Index dynamic_slots = 0;  ///< then without static replicas
};
constexpr CudaTarget kHardMust{12, 18}, kHardAim{9, 13};
constexpr CudaTarget kMustCopies{15, 0}, kAimCopies{11, 0};
constexpr PlanShapeCase kPlans[] = {
    {"cube8x2", 4096, PlanShape::kCluster, {10, 0}, {6.5, 0}, {9.5, 12}, {7, 9}},
    {"cube8x2", 4096, PlanShape::kKernels, {10, 0}, {6.5, 0}, {}, {}},
    {"cube8x2", 128, PlanShape::kCluster, {8, 0}, {5, 0}, {7.5, 0}, {5, 0}},
    {"cube8x2", 128, PlanShape::kKernels, {8, 0}, {5, 0}, {}, {}},
    {"EP64+64", 16384, PlanShape::kCluster, {18, 0}, {12, 0}, {}, {}},
    {"EP64+64", 16384, PlanShape::kKernels, {18, 0}, {12, 0}, {}, {}},
    {"hypercube16x2", 4096, PlanShape::kCluster, {}, {}, {}, {}},
    {"torus8x4x2", 4096, PlanShape::kCluster, {}, {}, kHardMust, kHardAim},
    {"EP64+64", 4096, PlanShape::kCluster, {}, {}, kHardMust, kHardAim},
    {"EP64+64", 128, PlanShape::kCluster, {}, {}, {}, {}},
    {"EP128+128", 4096, PlanShape::kCluster, {}, {}, {}, {}},
    {"EP128+128", 4096, PlanShape::kKernels, {}, {}, {}, {}},
    {"EP144", 4096, PlanShape::kCluster, {}, {}, {}, {}},
    {"EP256", 4096, PlanShape::kCluster, {}, {}, {}, {}},
    {"EP320", 4096, PlanShape::kCluster, {}, {}, {}, {}},
    {"cube8x2", 8, PlanShape::kCluster, {}, {}, {}, {}},
    {"cube8x2", 8, PlanShape::kCluster, {}, {}, {}, {}, true},
    {"cube8x2", 128, PlanShape::kCluster, {}, {}, {}, {}, true},
    {"cube8x2", 4096, PlanShape::kCluster, {}, {}, {}, {}, true},
    {"EP64+64", 8, PlanShape::kCluster, {}, {}, {}, {}},
    {"EP64+64", 8, PlanShape::kCluster, {}, {}, {}, {}, true},
    {"EP64+64", 128, PlanShape::kCluster, {}, {}, {}, {}, true},
    {"EP64+64", 4096, PlanShape::kCluster, {}, {}, {}, {}, true},
    {"cube8x2", 4096, PlanShape::kCluster, kMustCopies, kAimCopies, kMustCopies, kAimCopies, false,
     1},
    {"cube8x2", 128, PlanShape::kCluster, {}, {}, {}, {}, false, 1},
    {"EP32+32", 4096, PlanShape::kCluster, {}, {}, {}, {}, false, 1},
    {"EP64+64", 4096, PlanShape::kCluster, {}, {}, {}, {}, false, 1},
};

PlannerOptions options_of(const PlanShapeCase& shape) {
  PlannerOptions options;
  options.max_tokens = shape.num_tokens;
  options.num_topk = kTopk;
  options.dynamic_slots = shape.dynamic_slots;
  if (shape.by_cost) {
    options.cost =
        CostModel("us", CostTable{32.2, {128, 256, 384, 512}, {30.6, 43.2, 68.1, 68.1}, 256, 35.2});
  }
  return options;
}

/// Maps the batch with the CPU's planner.
std::vector<std::int32_t> map_on_cpu(const Placement& p, const PlannerOptions& options,
                                     const PlanBatch& batch) {
  auto given = std::make_shared<GivenCounts>(p.num_ranks, 0);
  given->set(batch.counts, p.num_logical_experts);
  Planner planner(p, 0, options, given);
  std::vector<std::int32_t> out(batch.topk.size());
  planner.run(batch.topk, out);
  return out;
}

/// The workload's placement; with dynamic slots its experts in order.
Placement placement_of(const testing::Workload& workload, const PlanShapeCase& shape) {
  const Placement& p = workload.placement;
  if (shape.dynamic_slots == 0) return p;
  std::vector<Index> homes(static_cast<std::size_t>(p.num_logical_experts));
  std::iota(homes.begin(), homes.end(), 0);
  return make_placement(p.num_ranks, p.num_logical_experts, homes);
}

/// Adds the times of the workload's batches to `times`. Returns the planner's statistics.
DevicePlannerStats time_workload(const testing::Workload& workload, const PlanShapeCase& shape,
                                 std::vector<double>& times) {
  const Placement p = placement_of(workload, shape);
  const PlannerOptions options = options_of(shape);
  const Singles singles =
      shape.by_cost || shape.dynamic_slots > 0 ? Singles::kEach : Singles::kSummed;
  DevicePlanner planner(p, 0, options, {.shape = shape.launch});
  GraphTimer timer;
  testing::DeviceVector<std::int32_t> topk, packed, out;
  for (std::size_t i = 0; i < workload.loads.size(); ++i) {
    const PlanBatch batch(p, workload.loads[i], shape.num_tokens, i, singles);
    topk.set(batch.topk);
    packed.set(batch.packed);
    out.set(std::vector<std::int32_t>(batch.topk.size(), -77));
    DeviceBatch work;
    work.topk_idx = topk.data();
    work.num_tokens = shape.num_tokens;
    work.physical_idx = out.data();
    work.all_counts = packed.data();
    times.push_back(timer.time_us([&] { planner.run(timer.stream(), work); }));
    if (out.get() != map_on_cpu(p, options, batch)) {
      throw std::runtime_error("a batch is not mapped as on the CPU");
    }
  }
  return planner.stats(timer.stream());
}

CudaTiming time_plan(const Case& c, const PlanShapeCase& shape) {
  const std::vector<testing::Workload> workloads = c.make(kBatches);
  std::vector<double> times;
  std::int64_t batches = 0, optimal = 0;
  for (const testing::Workload& workload : workloads) {
    const DevicePlannerStats stats = time_workload(workload, shape, times);
    batches += stats.batches;
    optimal += stats.optimal;
  }
  const DevicePlanner planner(placement_of(workloads[0], shape), 0, options_of(shape),
                              {.shape = shape.launch});
  CudaTiming timing = summarize(std::move(times));
  timing.note = std::to_string(planner.num_blocks(shape.num_tokens)) + " SMs, " +
                std::to_string(optimal) + "/" + std::to_string(batches) + " replays optimal";
  return timing;
}

void add_plans(const std::vector<Case>& cases, std::vector<CudaBenchmark>& benchmarks) {
  for (const Case& c : cases) {
    for (const PlanShapeCase& shape : kPlans) {
      if (!is_shape(c, shape.shape)) continue;
      // The three kernels solve as the cluster does: their rows need no hard loads.
      if (is_hard(c) && shape.launch == PlanShape::kKernels) continue;
      const std::string launch = shape.launch == PlanShape::kCluster ? "/cluster" : "/kernels";
      benchmarks.push_back({(shape.by_cost             ? "plan-cost/"
                             : shape.dynamic_slots > 0 ? "plan-copies/"
                                                       : "plan/") +
                                c.name + "/" + std::to_string(shape.num_tokens) + launch,
                            is_hard(c) ? shape.hard_must : shape.must,
                            is_hard(c) ? shape.hard_aim : shape.aim,
                            [c, shape] { return time_plan(c, shape); }});
    }
  }
}

[[maybe_unused]] const bool registered = (cuda_suites().push_back(add_plans), true);

}  // namespace
}  // namespace lplb::bench
