// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "solve/ipm/ipm.h"
#include "solve/tables.h"

namespace lplb {

struct DeviceWorkspace;
struct TimeScratch;

struct Workspace::TimeDeleter {
  void operator()(TimeScratch* time) const;
};

struct Workspace::DeviceDeleter {
  void operator()(DeviceWorkspace* device) const;
};

/// The state of one solve, in the terms of SplitProblem::Tables. The front end fills the first
/// block, a solver writes the second, and both may use the scratch.
struct Workspace::Buffers {
  // In: what the batch asks for.
  std::span<const Load> load;    // [num_logical]
  Load total = 0;                // over all experts
  std::vector<Load> fixed_load;  // [num_ranks]: tokens of fixed experts
  std::vector<Load> want;        // [K]: tokens of replicated experts

  // Out: how it is split, and the proof.
  std::vector<Load> take;       // [num places]
  std::vector<Load> rank_load;  // [num_ranks]
  Level bound;                  // no split is below it
  std::vector<char> in_proof;   // [num_ranks]: the set that proves it
  SolveStatus status = SolveStatus::kOptimal;
  std::int64_t steps = 0;

  // Scratch.
  std::vector<Load> capacity, room;       // flow: [num_ranks]
  std::vector<Load> level_load, level_x;  // [most places of an expert]
  std::vector<double> level_speed;
  std::vector<Index> level_order;
  std::vector<Index> label;        // flow: [num_ranks], distance to room, -1: none
  std::vector<Index> target;       // flow: [K], place that tokens may go to, -1: none
  std::vector<Index> found;        // flow: ranks by level
  std::vector<Index> level_begin;  // flow: where each level begins in found
  std::vector<Index> rank_list;    // flow: [<= num_ranks]
  std::vector<Level> heap;         // raise_to_fit: [<= num_ranks]
  Split split;                     // solve_batch()
  IpmScratch ipm;
  LpScratch lp;
  std::unique_ptr<TimeScratch, TimeDeleter> time;  // made by the first solve with a cost

  std::unique_ptr<DeviceWorkspace, DeviceDeleter> device;  // made by the first solve with kCuda

  void resize(const SplitProblem::Tables& tables);
};

}  // namespace lplb
