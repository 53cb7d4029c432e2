// SPDX-License-Identifier: MIT
#pragma once

#include <span>

#include "solve/tables.h"
#include "solve/workspace.h"

// The contract between the front end (solve.cc) and the solvers: a solver reads the first block of
// Buffers and writes its second. `in_proof` and `bound` must prove that no split is below `bound`.
namespace lplb::solvers {

using Tables = SplitProblem::Tables;
using Buffers = Workspace::Buffers;

void solve_cut(const Tables& tables, const SolveOptions& options, Buffers& buffers);
void solve_flow(const Tables& tables, const SolveOptions& options, Buffers& buffers);
void solve_ipm(const Tables& tables, const SolveOptions& options, Buffers& buffers);
/// Needs options.cost. `bound` and `in_proof` are in tokens, as of the other solvers; `status` is
/// that of the cost, which buffers.time has.
void solve_time(const Tables& tables, const SolveOptions& options, Buffers& buffers);
/// The same, within the time of a step; the device has a twin (device/fast_time.cuh).
void solve_fast_time(const Tables& tables, const SolveOptions& options, Buffers& buffers);

/// Checks a batch's loads and fills the first block of `buffers`. Throws ArgumentError.
void take_loads(const Tables& tables, std::span<const Load> load, Buffers& buffers);

/// The solver that is used: kAuto is replaced by the first one that takes `num_ranks` and the cost,
/// or does without. Throws ArgumentError if a named solver cannot take the problem.
Solver chosen_solver(const SolveOptions& options, Index num_ranks);

/// The same contract on the current device. Returns false and leaves `buffers` as they were if the
/// device cannot take this problem or this batch. Throws CudaError.
bool solve_on_device(const Tables& tables, const SolveOptions& options, Solver solver,
                     Buffers& buffers);

/// solve_batch() on the current device, with the same shapes. `refused` [num_batches] says which
/// batches were not solved, for any reason. Returns false with nothing written if the device cannot
/// take the problem. Throws CudaError.
bool solve_batch_on_device(const Tables& tables, const SolveOptions& options, Solver solver,
                           std::span<const Load> loads, std::span<Load> physical_loads,
                           std::span<SplitSummary> summary, std::vector<char>& refused,
                           Buffers& buffers);

inline double cost_in_units(Cost cost) {
  return static_cast<double>(cost) / static_cast<double>(kCostsPerUnit);
}
/// What solve_time() found, for Split; or nothing.
void report_cost(const Tables& tables, const Buffers& buffers, SplitCost& cost);
void clear_cost(SplitCost& cost);

/// Divides each replicated expert's tokens evenly over its places; the first places take the odd
/// tokens. Sets take and rank_load.
void share_evenly(const Tables& tables, Buffers& buffers);

/// Levels replicated expert k, given the other loads in `buffers.rank_load`. Updates take and
/// rank_load. Returns whether anything changed.
bool level_expert(const Tables& tables, Index k, Buffers& buffers);

}  // namespace lplb::solvers
