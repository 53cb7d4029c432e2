// SPDX-License-Identifier: MIT
#pragma once

#include <span>

#include "solve/ipm/core.h"
#include "solve/ipm/model.h"

namespace lplb {

/// What Workspace::Buffers keeps for the interior-point solver.
struct IpmScratch {
  solvers::IpmModel model;
  solvers::IpmState<double> state;
  solvers::IpmResult result;
  std::vector<double> price;    // [live ranks]
  std::vector<double> tokens;   // [num places]
  std::vector<double> room;     // [num_ranks]
  std::vector<Index> rank;      // [most places of an expert]
  std::vector<Index> order;     // [live ranks]
  std::vector<Index> position;  // [num_ranks]
  std::vector<Load> joined;     // [live ranks]
};

/// What Workspace::Buffers keeps for solve_lp().
struct LpScratch {
  solvers::IpmModel model;
  solvers::IpmState<double> state;
  double unit = 1;                      // the mean rank load in tokens
  double mean_speed = 1;                // of live ranks
  std::vector<double> fixed;            // [num_physical]: tokens of experts with one live slot
  std::vector<double> scale;            // [constraints]: largest coefficient
  std::vector<Index> row_of_rank;       // [num_ranks]
  std::vector<Index> slot_of_variable;  // [num variables]
  std::vector<Index> variable_of_slot;  // [num_physical], -1: none
  std::vector<Index> filled;            // [num variables]
};

}  // namespace lplb
