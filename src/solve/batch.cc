// SPDX-License-Identifier: MIT
#include <algorithm>

#include "core/check.h"
#include "core/parallel.h"
#include "solve/solvers.h"

namespace lplb {

namespace {

/// A batched solve: its arguments, and which batches are still to be solved.
struct Batches {
  const SplitProblem& problem;
  std::span<const Load> loads;
  std::span<Load> physical_loads;
  std::span<SplitSummary> summary;
  SolveOptions options;
  std::size_t logical = static_cast<std::size_t>(problem.num_logical());
  std::size_t physical = static_cast<std::size_t>(problem.num_physical());
  std::vector<char> pending;  // [num_batches]: not solved on the device; empty: none was

  void check() {
    check_argument(loads.size() == summary.size() * logical, "loads",
                   "has {} entries, expected {} batches x {} experts", loads.size(), summary.size(),
                   logical);
    check_argument(physical_loads.size() == summary.size() * physical, "physical_loads",
                   "has {} entries, expected {} batches x {} slots", physical_loads.size(),
                   summary.size(), physical);
    // NOTE: no warm start, because which batch a thread solved last depends on the number of
    // threads.
    options.warm_start = false;
  }

  /// Solves on the device those batches that it takes, if the device is asked for.
  void solve_on_device(Workspace& workspace) {
    if (options.backend != Backend::kCuda) return;
    pending.assign(summary.size(), 1);
    solvers::solve_batch_on_device(problem.tables(), options,
                                   solvers::chosen_solver(options, problem.num_ranks()), loads,
                                   physical_loads, summary, pending, workspace.buffers());
    for (std::size_t i = 0; i < summary.size(); ++i) {
      if (pending[i] == 0) summary[i].backend = Backend::kCuda;
    }
    options.backend = Backend::kCpu;  // for the batches that are left
  }

  /// Solves batches [begin, end) without those that the device has solved.
  void solve_on_cpu(std::size_t begin, std::size_t end, Workspace& workspace) const {
    Split& split = workspace.buffers().split;
    for (std::size_t i = begin; i < end; ++i) {
      if (!pending.empty() && pending[i] == 0) continue;
      solve(problem, loads.subspan(i * logical, logical), split, workspace, options);
      std::copy(split.physical_load.begin(), split.physical_load.end(),
                physical_loads.begin() + static_cast<std::ptrdiff_t>(i * physical));
      summary[i] = {split.status,  split.max_load,      split.lower_bound,
                    Backend::kCpu, split.cost.max_cost, split.cost.lower_bound};
    }
  }
};

}  // namespace

void solve_batch(const SplitProblem& problem, std::span<const Load> loads,
                 std::span<Load> physical_loads, std::span<SplitSummary> summary, int num_threads,
                 const SolveOptions& options) {
  constexpr std::int64_t kChunk = 64;  // solves that a thread takes at a time
  Batches batches{problem, loads, physical_loads, summary, options};
  batches.check();
  std::vector<Workspace> workspaces(static_cast<std::size_t>(std::max(num_threads, 1)));
  batches.solve_on_device(workspaces[0]);
  parallel_chunks(static_cast<std::int64_t>(summary.size()), kChunk, num_threads,
                  [&](std::int64_t begin, std::int64_t end, int thread) {
                    batches.solve_on_cpu(static_cast<std::size_t>(begin),
                                         static_cast<std::size_t>(end),
                                         workspaces[static_cast<std::size_t>(thread)]);
                  });
}

void solve_batch(const SplitProblem& problem, std::span<const Load> loads,
                 std::span<Load> physical_loads, std::span<SplitSummary> summary,
                 Workspace& workspace, const SolveOptions& options) {
  Batches batches{problem, loads, physical_loads, summary, options};
  batches.check();
  batches.solve_on_device(workspace);
  batches.solve_on_cpu(0, summary.size(), workspace);
}

void split_evenly(const Placement& placement, std::span<const Load> load,
                  std::span<Load> physical_load) {
  check_argument(load.size() == static_cast<std::size_t>(placement.num_logical_experts), "load",
                 "has {} entries, expected num_logical_experts ({})", load.size(),
                 placement.num_logical_experts);
  check_argument(physical_load.size() == placement.physical_to_logical.size(), "physical_load",
                 "has {} entries, expected num_physical ({})", physical_load.size(),
                 placement.num_physical());
  for (Index e = 0; e < placement.num_logical_experts; ++e) {
    check_argument(load[e] >= 0, "load", "expert {} has load {}, expected >= 0", e, load[e]);
    const auto is_live = [&](Index slot) { return placement.alive(placement.rank_of(slot)); };
    const std::span<const Index> replicas = placement.replicas(e);
    const auto live = static_cast<Index>(std::count_if(replicas.begin(), replicas.end(), is_live));
    Index i = 0;
    for (const Index slot : replicas) {
      if (!is_live(slot)) {
        physical_load[slot] = 0;
        continue;
      }
      const Index turn = (i++ - e % live + live) % live;  // 0 for the (e % live)-th live replica
      physical_load[slot] = load[e] / live + (turn < load[e] % live);
    }
  }
}

}  // namespace lplb
