// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <vector>

#include "lplb/types.h"

namespace lplb::solvers {

/// The linear program of docs/math.md, section "Interior point", in units of the mean rank load:
///
///   minimise T, with
///     sum of the x of expert k       = want[k]                for each expert k,
///     sum of the x on rank i + slack = speed[i] T + limit[i]  for each rank i,
///     sum of coefficient x + slack   = limit[i]               for each further constraint i.
///
/// A variable belongs to one expert and one rank. The constraints are the rows of the matrix: those
/// of the ranks come first. The further ones have sparse entries. Loads and limits follow from the
/// batch, the rest from the placement.
struct IpmModel {
  Index num_ranks = 0;        // constraints of ranks: the live ranks, ascending
  Index num_rows = 0;         // all constraints
  std::vector<double> speed;  // [num_ranks], mean 1
  std::vector<double> limit;  // [num_rows]: for a rank, -(what its fixed experts bring)

  std::vector<double> want;  // [K]; 0: the expert takes no part
  std::vector<Index> begin;  // [K + 1], into the variables
  std::vector<Index> row;    // [num variables]: the rank, as a constraint

  std::vector<Index> entry_begin;   // [num variables + 1]; empty: no further constraints
  std::vector<Index> entry_row;     // >= num_ranks
  std::vector<double> coefficient;  // at most 1 in magnitude

  Index num_experts() const { return static_cast<Index>(want.size()); }
  Index num_variables() const { return static_cast<Index>(row.size()); }
};

enum class IpmStatus { kConverged, kLimit, kInfeasible };

struct IpmLimits {
  double tolerance = 1e-6;  // of (T - bound) / T, and of violations of further constraints
  int max_iterations = 60;
  // Start from the state's last solution, if its sizes are those of the model.
  bool warm = false;
};

struct IpmResult {
  IpmStatus status = IpmStatus::kLimit;
  int iterations = 0;
  double max_load = 0;     // T of the x that was found
  double lower_bound = 0;  // of the dual prices that were found
  double violation = 0;    // the most by which a further constraint is exceeded
};

}  // namespace lplb::solvers
