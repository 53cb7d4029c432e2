// SPDX-License-Identifier: MIT
#pragma once

#include <span>
#include <vector>

#include "lplb/solver.h"

namespace lplb {

/// coefficient * (tokens that slot `physical` takes).
struct Term {
  Index physical;
  double coefficient = 1;
};

/// The sum of its terms is at most `at_most`: what a link, a node or a buffer can take. Terms of
/// one slot add up; slots of dead ranks take nothing.
struct LinearConstraint {
  std::vector<Term> terms;
  double at_most = 0;
};

struct LpOptions {
  double tolerance = 1e-6;  ///< of the gap, relative to T; constraints: of the mean rank load
  int max_iterations = 100;
  bool warm_start = false;  ///< as in SolveOptions; sizes include those of the constraints
};

enum class LpStatus {
  kOptimal,         ///< within the tolerance of the best shares, and of every constraint
  kIterationLimit,  ///< the bound holds, but the shares may exceed constraints: see violation
  kInfeasible,      ///< no shares satisfy the constraints: a combination of them proves it
};

const char* lp_status_name(LpStatus status);

/// Shares in fractions of tokens. Reused from call to call it keeps its memory.
struct LpSolution {
  LpStatus status = LpStatus::kOptimal;
  double max_load = 0;     ///< T: max over ranks of load / speed
  double lower_bound = 0;  ///< no shares within the constraints have a smaller T
  double gap = 0;          ///< (max_load - lower_bound) / max_load; 0 where T is 0
  double violation = 0;    ///< the most by which a constraint is exceeded, in its units
  int iterations = 0;
  std::vector<double> physical_load;     ///< [num_physical], >= 0; an expert's add up to its load
  std::vector<double> rank_load;         ///< [num_ranks]
  std::vector<double> rank_price;        ///< [num_ranks]: T rises by so much for a token more there
  std::vector<double> constraint_price;  ///< [constraints]: T falls by so much for one more at_most
};

/// Least T, in fractions of tokens, under further linear constraints, by the interior-point method.
/// O(rows^3) an iteration with a row a live rank and a row a constraint: at most kMaxLpConstraints
/// of them. Throws ArgumentError for what solve() throws, too many rows, a slot out of range, and
/// coefficients or limits that are not finite.
void solve_lp(const SplitProblem& problem, std::span<const Load> load,
              std::span<const LinearConstraint> constraints, LpSolution& solution,
              Workspace& workspace, const LpOptions& options = {});

/// The same in one call, for a single use.
LpSolution solve_lp(const Placement& placement, std::span<const Load> load,
                    std::span<const LinearConstraint> constraints, const LpOptions& options = {});

inline constexpr Index kMaxLpConstraints = 512;

}  // namespace lplb
