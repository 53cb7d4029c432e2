// SPDX-License-Identifier: MIT
#pragma once

#include <span>
#include <vector>

#include "lplb/export.h"
#include "lplb/solver.h"

namespace lplb {

/// A term of a constraint: coefficient * (tokens that slot `physical` takes).
struct Term {
  Index physical;
  double coefficient = 1;
};

/// The sum of the terms must be at most `at_most`: what a link, a node or a buffer can take, say.
/// Several terms of one slot add up. Slots of dead ranks take no tokens.
struct LinearConstraint {
  std::vector<Term> terms;
  double at_most = 0;
};

struct LpOptions {
  /// The solver stops when the gap is at most this part of T, and no constraint is exceeded by more
  /// than this part of the mean rank load.
  double tolerance = 1e-6;
  int max_iterations = 100;
  /// As in SolveOptions. The sizes that must be the same include those of the constraints.
  bool warm_start = false;
};

enum class LpStatus {
  kOptimal,         ///< within the tolerance of the optimum and of every constraint
  kIterationLimit,  ///< lower_bound holds; constraints may be exceeded (see violation)
  kInfeasible,      ///< no shares satisfy the constraints; a combination of them proves it
};

LPLB_API const char* lp_status_name(LpStatus status);

/// A split in fractions of tokens. An object that is used again keeps its memory.
struct LpSolution {
  LpStatus status = LpStatus::kOptimal;
  double max_load = 0;     ///< T: max over ranks of load / speed
  double lower_bound = 0;  ///< no shares within the constraints have a smaller T
  double gap = 0;          ///< (max_load - lower_bound) / max_load; 0 if T is 0
  double violation = 0;    ///< the most by which a constraint is exceeded, in its unit
  int iterations = 0;
  std::vector<double> physical_load;  ///< [num_physical], >= 0; those of an expert sum to its load
  std::vector<double> rank_load;      ///< [num_ranks]
  std::vector<double> rank_price;     ///< [num_ranks]: how much T rises for one more token there
  std::vector<double> constraint_price;  ///< [constraints]: how much T falls if at_most rises by 1
};

/// Finds the least T, in fractions of tokens, under further linear constraints, by the
/// interior-point method. `load` [num_logical]. The linear program has a constraint for each live
/// rank and for each entry of `constraints`, n in all; an iteration takes O(n^3).
///
/// Throws ArgumentError if solve() would for this load, if n is more than kMaxLpConstraints, a slot
/// is out of range, or a coefficient or limit is not finite.
LPLB_API void solve_lp(const SplitProblem& problem, std::span<const Load> load,
                       std::span<const LinearConstraint> constraints, LpSolution& solution,
                       Workspace& workspace, const LpOptions& options = {});

/// The same in one call, for a single use.
LPLB_API LpSolution solve_lp(const Placement& placement, std::span<const Load> load,
                             std::span<const LinearConstraint> constraints,
                             const LpOptions& options = {});

/// The most constraints that solve_lp() takes: live ranks and entries of `constraints` together.
inline constexpr Index kMaxLpConstraints = 512;

}  // namespace lplb
