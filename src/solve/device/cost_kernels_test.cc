// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "support/emulated_block.h"
#include "support/instances.h"
#include "support/repetitions.h"

// NOTE: these come after the emulation, because they are compiled with it.
#include "solve/device/solve_kernel.cuh"
#include "solve/solvers.h"
#include "solve/time/test_models.h"
#include "solve/time/time.h"

// Runs what solve_kernel() does with costs on the CPU, and compares every integer with solver
// fast-time. backends_test.cc has more instances, on a GPU.
namespace lplb::solvers {
namespace {

using lplb::testing::Instance;

constexpr std::uint64_t kRandomCosts = lplb::testing::repetitions(400, 4);
constexpr int kCostBatches = lplb::testing::repetitions(24, 2);

/// What a block of kTimeThreads leaves in its shared memory.
struct CostBlock {
  std::vector<uint4> state_memory, time_memory;
  BlockState state;
  BlockOutcome found;
  TimeOutcome cost;
};

template <Form kForm>
void run_costs(DeviceImage& image, const std::vector<Load>& load, int team, CostBlock& block) {
  const DeviceTablesHeader& h = image.header();
  const auto junk = [](std::vector<uint4>& memory, int bytes) {
    memory.resize(static_cast<std::size_t>(bytes) / sizeof(uint4) + 1);
    std::memset(static_cast<void*>(memory.data()), 0x5A, memory.size() * sizeof(uint4));
    return reinterpret_cast<unsigned char*>(memory.data());
  };
  block.state = BlockState::carve(junk(block.state_memory, BlockState::bytes(h)), h);
  const BlockTimeState time =
      BlockTimeState::carve(junk(block.time_memory, BlockTimeState::bytes(h)), h);
  const auto* const experts =
      reinterpret_cast<const DeviceExpert*>(image.bytes.data() + kExpertsOffset);
  int passes_step = 0;
  emulated::run_block(kTimeThreads, [&] {
    const auto thread = static_cast<int>(threadIdx.x);
    const BlockState& state = block.state;
    for (int g = thread; g < h.num_ranks; g += kTimeThreads) {
      state.fixed[g] = 0;
      CostIntake::clear(time, g);
    }
    __syncthreads();
    const CostIntake intake(image.bytes.data(), h, state, time);
    for (int e = thread; e < h.num_logical; e += kTimeThreads) {
      const auto tokens = static_cast<int>(load[static_cast<std::size_t>(e)]);
      if (intake.passes_step(tokens)) atomicOr(&passes_step, 1);
      if (experts[e].is_fixed != 0) {
        atomicAdd(&state.fixed[experts[e].index], tokens);
        intake.add_fixed(experts[e].index, tokens);
      } else {
        state.want[experts[e].index] = tokens;
        intake.add_replicated(experts[e].index, tokens);
      }
    }
    __syncthreads();
    const bool is_units = passes_step == 0;
    intake.hand_over(is_units, thread, kTimeThreads);
    __syncthreads();
    if (thread < team) {
      const BlockTables tables(image.bytes.data(), h);
      const BlockOutcome out =
          solve_in_block<kForm>(tables, state, thread, team, device_steps(h.num_ranks, -1));
      if (thread == 0) block.found = out;
    }
    __syncthreads();
    BlockFastTime(image.bytes.data(), h, state, time, thread)
        .run(is_units, &block.found, &block.cost);
  });
}

/// Compares the kernel with the CPU, if it takes the placement. Returns whether it does.
bool expect_equal_costs(const Instance& instance, const CostModel& model) {
  const SplitProblem problem(instance.placement);
  const Tables& tables = problem.tables();
  if (!tables.cost.uniform()) return false;
  const SolveOptions options{.solver = Solver::kFastTime, .cost = &model};
  Workspace workspace;
  Workspace::Buffers& b = workspace.buffers();
  take_loads(tables, instance.load, b);
  if (b.total > INT32_MAX) return false;
  solve_fast_time(tables, options, b);

  DeviceImage image;
  image.assign(tables, &b.time->model);
  const DeviceTablesHeader& h = image.header();
  CostBlock block;
  if (h.num_live <= kMaxCutRanks) {
    run_costs<Form::kCut>(image, instance.load, kCutThreads, block);
  } else if (Flow32::takes(h)) {
    run_costs<Form::kFlow32>(image, instance.load, kWarpSize, block);
  } else if (Flow96::takes(h)) {
    run_costs<Form::kFlow96>(image, instance.load, kMaskThreads, block);
  } else {
    run_costs<Form::kFlowBlock>(image, instance.load, 2 * kWarpSize, block);
  }
  for (std::size_t i = 0; i < b.take.size(); ++i) {
    EXPECT_EQ(block.state.take[i], b.take[i]) << instance.name << ", place " << i;
  }
  for (const Index g : tables.live_ranks) {
    EXPECT_EQ(block.state.rank_load[g], b.rank_load[g]) << instance.name << ", rank " << g;
  }
  EXPECT_EQ(block.found.bound, b.bound.tokens) << instance.name;
  EXPECT_EQ(block.found.max_load, *std::max_element(b.rank_load.begin(), b.rank_load.end()));
  EXPECT_EQ(block.found.steps, b.steps) << instance.name;
  EXPECT_EQ(block.found.is_optimal != 0, b.status == SolveStatus::kOptimal) << instance.name;
  EXPECT_EQ(block.cost.max_cost, b.time->best.price) << instance.name;
  EXPECT_EQ(block.cost.bound, b.time->bound) << instance.name;
  return true;
}

TEST(EmulatedFastTime, EqualsCpuOnRandomInstances) {
  int solved = 0;
  for (std::uint64_t seed = 0; seed < kRandomCosts && !HasFailure(); ++seed) {
    testing::RandomLimits limits;
    limits.speeds = false;
    limits.max_ranks = seed % 3 == 0 ? 8 : 40;
    limits.max_slots_per_rank = seed % 5 == 0 ? 9 : 4;
    limits.max_load = seed % 4 == 0 ? 3 : 1000;
    const Instance instance = testing::random_instance(seed, limits);
    solved += expect_equal_costs(
                  instance, seed % 4 == 1
                                ? testing::staircase_model(seed % 8 == 1 ? 1 : testing::kDear)
                                : testing::random_model(seed, instance.placement.num_ranks, 500))
                  ? 1
                  : 0;
  }
  EXPECT_EQ(solved, static_cast<int>(kRandomCosts));
}

TEST(EmulatedFastTime, EqualsCpuOnWorkloads) {
  for (const char* name : {"cube8x2", "EP16+16", "skew:EP64+64", "EP72+144"}) {
    const testing::Workload workload = testing::make_workload(name, kCostBatches);
    for (std::size_t i = 0; i < workload.loads.size() && !HasFailure(); ++i) {
      Instance instance{name + (", batch " + std::to_string(i)), workload.placement,
                        workload.loads[i]};
      for (Load& tokens : instance.load) tokens >>= i % 8;
      EXPECT_TRUE(
          expect_equal_costs(instance, testing::staircase_model(i % 5 == 1 ? testing::kDear : 1)));
    }
  }
}

}  // namespace
}  // namespace lplb::solvers
