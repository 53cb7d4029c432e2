// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "support/emulated_block.h"
#include "support/instances.h"
#include "support/repetitions.h"

// NOTE: these come after the emulation, because they are compiled with it.
#include "solve/device/solve_kernel.cuh"
#include "solve/solvers.h"
#include "solve/time/test_models.h"

// Runs the kernels' solvers on the CPU, and compares every integer with the CPU's own solvers.
// backends_test.cc has more instances, on a GPU.
namespace lplb::solvers {
namespace {

using lplb::testing::Instance;

constexpr std::uint64_t kRandomInstances = lplb::testing::repetitions(600, 15);
constexpr int kBatches = lplb::testing::repetitions(64, 4);

/// One instance, in the memory that a block would have.
class Emulator {
 public:
  explicit Emulator(const Tables& tables) : tables_(tables) {
    image_.assign(tables);
    const DeviceTablesHeader& h = image_.header();
    memory_.resize(static_cast<std::size_t>(BlockState::bytes(h)) / sizeof(uint4) + 1);
  }

  const DeviceTablesHeader& header() const { return image_.header(); }

  /// Solves what `b` asks for, and expects the result that `b` has.
  void expect_equal(Form form, int threads, const Workspace::Buffers& b, int max_steps,
                    const std::string& name) {
    const DeviceTablesHeader& h = header();
    // NOTE: the memory holds junk, because a solver may read only `want` and `fixed`.
    std::memset(static_cast<void*>(memory_.data()), 0x5A, memory_.size() * sizeof(uint4));
    const BlockState state = BlockState::carve(reinterpret_cast<unsigned char*>(memory_.data()), h);
    for (std::size_t k = 0; k < b.want.size(); ++k) state.want[k] = static_cast<int>(b.want[k]);
    for (std::size_t g = 0; g < b.fixed_load.size(); ++g) {
      state.fixed[g] = static_cast<int>(b.fixed_load[g]);
    }
    BlockOutcome outcome{};
    emulated::run_block(threads, [&] {
      const BlockTables tables(image_.bytes.data(), h);
      const int thread = static_cast<int>(threadIdx.x);
      const BlockOutcome mine = run(form, tables, state, thread, threads, max_steps);
      if (thread == 0) outcome = mine;
    });
    for (std::size_t i = 0; i < b.take.size(); ++i) ASSERT_EQ(state.take[i], b.take[i]) << name;
    for (const Index g : tables_.live_ranks) {
      ASSERT_EQ(state.rank_load[g], b.rank_load[g]) << name;
      ASSERT_EQ(has_bit(state.proof, g), b.in_proof[g] != 0) << name;
    }
    ASSERT_EQ(outcome.bound, b.bound.tokens) << name;
    ASSERT_EQ(outcome.steps, b.steps) << name;
    ASSERT_EQ(outcome.is_optimal != 0, b.status == SolveStatus::kOptimal) << name;
  }

 private:
  static BlockOutcome run(Form form, const BlockTables& tables, const BlockState& state, int thread,
                          int threads, int max_steps) {
    switch (form) {
      case Form::kCut:
        return solve_in_block<Form::kCut>(tables, state, thread, threads, max_steps);
      case Form::kFlow32:
        return solve_in_block<Form::kFlow32>(tables, state, thread, threads, max_steps);
      case Form::kFlow96:
        return solve_in_block<Form::kFlow96>(tables, state, thread, threads, max_steps);
      case Form::kFlow128:
        return solve_in_block<Form::kFlow128>(tables, state, thread, threads, max_steps);
      default:
        return solve_in_block<Form::kFlowBlock>(tables, state, thread, threads, max_steps);
    }
  }

  const Tables& tables_;
  DeviceImage image_;
  std::vector<uint4> memory_;
};

/// Compares a form with the CPU's solver, if it takes the placement. Returns whether it does.
bool expect_equal(const Instance& instance, Form form, std::int64_t max_steps = -1) {
  const SplitProblem problem(instance.placement);
  const Tables& tables = problem.tables();
  if (!tables.cost.uniform() || tables.live_ranks.empty()) return false;
  Emulator emulator(tables);
  const DeviceTablesHeader& h = emulator.header();
  int threads = kWarpSize;
  Solver solver = Solver::kFlow;
  if (form == Form::kCut) {
    if (h.num_live > kMaxCutRanks) return false;
    solver = Solver::kCut;
    threads = kCutThreads;
  } else if (form == Form::kFlow32) {
    if (!Flow32::takes(h)) return false;
  } else if (form == Form::kFlow96 || form == Form::kFlow128) {
    if (form == Form::kFlow96 ? !Flow96::takes(h) : !Flow128::takes(h)) return false;
    threads = kMaskThreads;
  } else {
    threads = 2 * kWarpSize;
  }
  Workspace workspace;
  Workspace::Buffers& b = workspace.buffers();
  b.resize(tables);
  take_loads(tables, instance.load, b);
  if (b.total > INT32_MAX) return false;
  b.steps = 0;
  const SolveOptions options{.solver = solver, .max_steps = max_steps};
  if (solver == Solver::kCut) {
    solve_cut(tables, options, b);
  } else {
    solve_flow(tables, options, b);
  }
  emulator.expect_equal(form, threads, b, device_steps(h.num_ranks, max_steps), instance.name);
  return true;
}

struct EmulatedCase {
  const char* name;
  Form form;
  friend void PrintTo(const EmulatedCase& c, std::ostream* out) { *out << c.name; }
};

class EmulatedSolver : public ::testing::TestWithParam<EmulatedCase> {};

TEST_P(EmulatedSolver, EqualsCpuOnRandomInstances) {
  const Form form = GetParam().form;
  const int most_ranks = form == Form::kCut       ? 8
                         : form == Form::kFlow96  ? 96
                         : form == Form::kFlow128 ? 128
                                                  : 20;
  testing::RandomLimits limits;
  limits.speeds = false;
  limits.max_ranks = most_ranks;
  int solved = 0;
  for (std::uint64_t seed = 0; seed < kRandomInstances; ++seed) {
    limits.max_load = seed % 3 == 0 ? 3 : seed % 7 == 1 ? 100'000'000 : 1000;
    const std::int64_t max_steps = seed % 5 == 0 ? static_cast<std::int64_t>(seed % 4) : -1;
    solved += expect_equal(testing::random_instance(seed, limits), form, max_steps) ? 1 : 0;
    if (HasFatalFailure()) return;
  }
  EXPECT_GE(solved, static_cast<int>(kRandomInstances) / (form == Form::kFlow128 ? 8 : 3));
}

TEST_P(EmulatedSolver, EqualsCpuOnAdversarialInstances) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP() << "takes minutes under ThreadSanitizer";
#endif
  int solved = 0;
  for (const Instance& instance : testing::adversarial_instances()) {
    solved += expect_equal(instance, GetParam().form) ? 1 : 0;
    if (HasFatalFailure()) return;
  }
  EXPECT_GE(solved, GetParam().form == Form::kFlow128 ? 10 : 20);
}

TEST_P(EmulatedSolver, EqualsCpuOnWorkloads) {
  const Form form = GetParam().form;
  const char* const name = form == Form::kCut       ? "cube8x2"
                           : form == Form::kFlow32  ? "hypercube16x2"
                           : form == Form::kFlow96  ? "EP72+144"
                           : form == Form::kFlow128 ? "EP128+128"
                                                    : "EP32+32";
  const testing::Workload workload = testing::make_workload(name, kBatches);
  for (const std::vector<Load>& load : workload.loads) {
    ASSERT_TRUE(expect_equal({name, workload.placement, load}, form));
    if (HasFatalFailure()) return;
  }
  if (form != Form::kCut) expect_equal({name, workload.placement, workload.loads[0]}, form, 1);
}

TEST(DeviceImage, HasAReciprocalOfEachCountThatIsDividedBy) {
  for (const Index num_ranks : {1, 2, 7, 8, 9, 33, 128, 200}) {
    std::vector<Index> map(static_cast<std::size_t>(num_ranks));
    for (Index g = 0; g < num_ranks; ++g) map[static_cast<std::size_t>(g)] = g;
    const SplitProblem problem(make_placement(num_ranks, num_ranks, map));
    DeviceImage image;
    image.assign(problem.tables());
    const DeviceTablesHeader& h = image.header();
    // cut divides by the sizes of all sets of 8 ranks, even if there are fewer.
    const int most = std::min(std::max(static_cast<int>(num_ranks), 8), kMostReciprocal);
    ASSERT_GE(h.solver_bytes - h.reciprocal, 4 * (most + 1)) << num_ranks;
    const auto* const table =
        reinterpret_cast<const std::uint32_t*>(image.bytes.data() + h.reciprocal);
    for (int n = 1; n <= most; ++n) EXPECT_EQ(table[n], UINT32_MAX / static_cast<unsigned>(n)) << n;
  }
}

/// DeviceCosts of an image with a model.
DeviceCosts costs_of(const Tables& tables, const CostModel& cost) {
  TimeModel model;
  model.assign(cost, tables);
  DeviceImage image;
  image.assign(tables, &model);
  return *reinterpret_cast<const DeviceCosts*>(image.bytes.data() + image.header().costs);
}

TEST(DeviceImage, KnowsLoadsWhoseCostsAreNarrow) {
  int num_narrow = 0;
  for (std::uint64_t seed = 0; seed < 2000 && !HasFailure(); ++seed) {
    testing::SplitMix64 random(seed);
    const Placement placement = testing::random_instance(seed, {.speeds = seed % 5 == 0}).placement;
    const SplitProblem problem(placement);
    const Tables& t = problem.tables();
    CostModel cost = testing::random_model(seed, placement.num_ranks, 500);
    if (seed % 3 == 0) cost = testing::staircase_model(std::pow(10.0, random.below(4)));
    const std::int32_t most = costs_of(t, cost).narrow_load;
    if (most < 0) continue;
    ++num_narrow;
    TimeModel model;
    model.assign(cost, t);
    // Any parts on any ranks, of which one or two are large; no rank has more than `most` at first.
    Load left = static_cast<Load>(most) * static_cast<Load>(t.live_ranks.size());
    const std::size_t parts = static_cast<std::size_t>(t.num_logical) + t.place.size();
    Cost sum = 0;
    for (std::size_t i = 0; i < parts; ++i) {
      const Index rank = t.live_ranks[random.below(static_cast<Index>(t.live_ranks.size()))];
      const Load small = std::min<Load>(left, random.between(0, 1 + static_cast<Load>(seed % 700)));
      const Load tokens = i + 1 == parts || random.below(8) == 0 ? random.between(0, left) : small;
      sum += model.curve(rank).of(i + 1 == parts ? left : tokens);
      left -= tokens;
    }
    for (const Index g : t.live_ranks) EXPECT_LT(sum + model.rank_cost(g), kNarrowCost) << seed;
  }
  EXPECT_GT(num_narrow, 1000);
  // Twice the mean of 4096 tokens with 8 experts each is narrow.
  const Placement placement = testing::make_workload("EP64+64", 1).placement;
  const SplitProblem problem(placement);
  EXPECT_GT(costs_of(problem.tables(), testing::staircase_model()).narrow_load, 2 * 8 * 4096);
  EXPECT_EQ(costs_of(problem.tables(), testing::staircase_model(testing::kDear)).narrow_load, -1);
}

INSTANTIATE_TEST_SUITE_P(All, EmulatedSolver,
                         ::testing::Values(EmulatedCase{"cut", Form::kCut},
                                           EmulatedCase{"flow32", Form::kFlow32},
                                           EmulatedCase{"flow96", Form::kFlow96},
                                           EmulatedCase{"flow128", Form::kFlow128},
                                           EmulatedCase{"flow_block", Form::kFlowBlock}),
                         [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace lplb::solvers
