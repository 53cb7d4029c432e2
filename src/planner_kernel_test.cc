// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <span>
#include <vector>

#include "support/emulated_block.h"

namespace lplb {
using std::max;
using std::min;
namespace solvers {
using std::max;
using std::min;
}  // namespace solvers
}  // namespace lplb

#include "lplb/mapping.h"
#include "lplb/solver.h"
#include "planner_block.cuh"
#include "planner_report.cuh"
#include "support/plan_batches.h"

// The plan's kernel on the CPU, one block of it, against solve() and map_tokens(): equal in every
// id. The steps are those of planner_cuda.cu's plan_kernel().
namespace lplb {
namespace {

using testing::BatchShape;
using testing::draw_batch;
using testing::GroupBatch;
using testing::SplitMix64;

/// A rank's planner as one block, in memory of the CPU.
class EmulatedPlanner {
 public:
  EmulatedPlanner(const Placement& placement, Index rank, int held_rows) : placement_(placement) {
    const Index redundants = placement.num_physical() - placement.num_logical_experts;
    const PlanLimits limits{placement.num_ranks, placement.num_logical_experts, redundants};
    const bool is_cut = placement.num_ranks <= kMaxCutRanks;
    image_.assign(placement, is_cut ? Solver::kCut : Solver::kFlow);
    args_.layout = lay_out(limits, std::int64_t{held_rows} * device::kRow * kPlanWarps, 1, 1 << 24);
    memory_.resize(static_cast<std::size_t>(args_.layout.bytes) / sizeof(uint4) + 1);
    // NOTE: kernels read whole stretches of it.
    device_image_ = image_.bytes();
    device_image_.resize(max_plan_bytes(limits), 0);
    args_.image = device_image_.data();
    args_.status = &status_;
    args_.rank = rank;
    args_.num_blocks = 1;
    args_.max_steps = solvers::device_steps(placement.num_ranks, -1);
  }

  template <class Id>
  std::vector<std::int64_t> run(const std::vector<std::int64_t>& topk, Index num_topk,
                                const std::vector<std::int32_t>* packed, int num_valid) {
    std::vector<Id> ids(topk.begin(), topk.end());
    args_.topk_idx = args_.physical_idx = ids.data();  // in place
    args_.id_bytes = sizeof(Id);
    args_.num_topk = num_topk;
    args_.num_entries = static_cast<int>(ids.size());
    args_.num_tokens = args_.num_entries / num_topk;
    args_.stretch = device::kRow * device::rows_per_warp(args_.num_entries, kPlanWarps);
    args_.num_valid_tokens = &num_valid;
    args_.all_counts = packed != nullptr ? packed->data() : nullptr;
    const bool is_cut = placement_.num_ranks <= kMaxCutRanks;
    emulated::run_block(kPlanThreads, [&] {
      if (is_cut) {
        run_steps<true>();
      } else {
        run_steps<false>();
      }
    });
    return {ids.begin(), ids.end()};
  }

  const PlanStatus& status() const { return status_; }

 private:
  template <bool kCut>
  void run_steps() {
    PlanBlock plan(args_, memory_.data());
    plan.begin(true);
    plan.open_image(true);
    plan.count();
    plan.number_warps();
    plan.add_other_ranks();
    __syncthreads();
    plan.share_totals(1);
    plan.gather(1);
    plan.solve<kCut>();
    plan.make_segments();
    plan.map();
    plan.report(1);
  }

  const Placement& placement_;
  PlanImage image_;
  std::vector<unsigned char> device_image_;
  PlanStatus status_{};
  PlanArgs args_{};
  std::vector<uint4> memory_;
};

/// What the first `num_valid` entries are mapped to; -1 for those that pad.
std::vector<std::int64_t> map_on_cpu(const Placement& p, Index rank,
                                     const std::vector<Load>& counts,
                                     std::span<const std::int64_t> topk, std::size_t num_valid) {
  const auto experts = static_cast<std::size_t>(p.num_logical_experts);
  std::vector<Load> sum(experts, 0);
  for (std::size_t i = 0; i < counts.size(); ++i) sum[i % experts] += counts[i];
  std::vector<std::int64_t> out(topk.size(), -1);
  map_tokens(p, counts, solve(p, sum).physical_load, rank, topk.first(num_valid),
             std::span(out).first(num_valid));
  return out;
}

TEST(EmulatedPlan, EqualsCpuOnRandomGroups) {
  SplitMix64 random(1);
  for (int i = 0; i < 8; ++i) {
    const Placement p = testing::random_placement(random, i % 2 == 0 ? 8 : 20);
    const Index rank = random.below(p.num_ranks);
    const Index num_topk = 1 + random.below(4);
    const GroupBatch batch =
        draw_batch(p, {.num_topk = num_topk, .max_tokens = i % 3 == 0 ? 2000 : 60}, random);
    const std::vector<std::int64_t>& topk = batch.topk[static_cast<std::size_t>(rank)];
    const auto tokens = static_cast<int>(topk.size()) / num_topk;
    const int valid = i % 3 == 1 ? tokens / 2 : tokens;
    const std::span entries = std::span(topk).first(static_cast<std::size_t>(valid * num_topk));
    const auto experts = static_cast<std::size_t>(p.num_logical_experts);
    std::vector<Load> counts = batch.counts;
    count_tokens(entries,
                 std::span(counts).subspan(static_cast<std::size_t>(rank) * experts, experts));
    const auto want = map_on_cpu(p, rank, counts, topk, entries.size());
    EmulatedPlanner planner(p, rank, 4);
    ASSERT_EQ(planner.run<std::int32_t>(topk, num_topk, &batch.packed, valid), want) << i;
    ASSERT_EQ(planner.run<std::int64_t>(topk, num_topk, &batch.packed, valid), want) << i;
    // The same tokens on every rank: all map as rank 0 would alone.
    std::vector<Load> alone(counts.size(), 0);
    count_tokens(entries, std::span(alone).first(experts));
    ASSERT_EQ(planner.run<std::int32_t>(topk, num_topk, nullptr, valid),
              map_on_cpu(p, 0, alone, topk, entries.size()))
        << i;
    EXPECT_EQ(planner.status().batches, 3u);
    EXPECT_EQ(planner.status().optimal, 3u);
  }
}

}  // namespace
}  // namespace lplb
