// SPDX-License-Identifier: MIT
#pragma once

#include <memory>
#include <vector>

#include "solve/solvers.h"
#include "solve/time/candidates.h"
#include "solve/time/matching.h"
#include "solve/time/model.h"
#include "solve/time/proof.h"
#include "solve/time/search.h"
#include "solve/time/state.h"

namespace lplb {

/// What solver `time` keeps in a workspace, and the part of its result that is no tokens.
struct TimeScratch {
  solvers::TimeModel model;
  solvers::TimeState state;
  solvers::TimeProof proof;
  solvers::Matching matching;
  solvers::SearchScratch search;
  solvers::BestSplit best;
  std::vector<Index> order, set;  // experts; ranks
  std::vector<char> inside;       // [num_ranks]
  std::unique_ptr<Workspace> flow;
  // The proof: no split costs less than `bound`, because of the ranks in `in_set` [num_ranks].
  Cost bound = 0;
  std::vector<char> in_set;
};

namespace solvers {

/// The optimal split by tokens.
void solve_by_tokens(const Tables& tables, Buffers& buffers);

/// The model of options.cost, for fast-time.
const TimeModel& assign_model(const Tables& tables, const SolveOptions& options, Buffers& buffers);

/// Makes fast-time's result of what its twin on the device found: `take`, `steps`, `in_proof` of
/// the solver by tokens, and that no split costs less than `cost_bound`.
void complete_fast_time(const Tables& tables, const SolveOptions& options, Cost cost_bound,
                        Buffers& buffers);

/// Writes the best split of `scratch` to where solvers leave theirs.
void write_best(TimeScratch& scratch, Buffers& buffers);

}  // namespace solvers

}  // namespace lplb
