// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <vector>

#include "lplb/types.h"

namespace lplb::solvers {

/// The linear program of docs/math.md, section "Interior point", in units of the mean rank load:
/// minimise T, with for each expert k   sum of its x = want[k],
///               for each rank row i    sum of the x there + slack = speed[i] T + limit[i],
///               for each further row   sum of coefficient x + slack = limit[i].
/// A variable belongs to one expert and one rank row; further rows have sparse entries. Loads and
/// limits follow from the batch, the rest from the placement.
struct IpmModel {
  Index num_ranks = 0;        // rank rows: the live ranks, ascending
  Index num_rows = 0;         // further rows included
  std::vector<double> speed;  // [num_ranks], mean 1
  std::vector<double> limit;  // [num_rows]: of a rank row -(what its fixed experts bring)

  std::vector<double> want;  // [K]; 0: the expert plays no part
  std::vector<Index> begin;  // [K + 1], into the variables
  std::vector<Index> row;    // [num variables]: rank row

  std::vector<Index> entry_begin;   // [num variables + 1], or empty: no further rows
  std::vector<Index> entry_row;     // >= num_ranks
  std::vector<double> coefficient;  // at most 1 in magnitude

  Index num_experts() const { return static_cast<Index>(want.size()); }
  Index num_variables() const { return static_cast<Index>(row.size()); }
};

enum class IpmStatus { kConverged, kLimit, kInfeasible };

struct IpmLimits {
  double tolerance = 1e-6;  // of (T - bound) / T, and of what further rows are exceeded by
  int max_iterations = 60;
  bool warm = false;  // start from the state's last solution, where its sizes are the model's
};

struct IpmResult {
  IpmStatus status = IpmStatus::kLimit;
  int iterations = 0;
  double max_load = 0;     // T of the x that was found
  double lower_bound = 0;  // of the dual prices that were found
  double violation = 0;    // the most by which a further row is exceeded
};

}  // namespace lplb::solvers
