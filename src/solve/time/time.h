// SPDX-License-Identifier: MIT
#pragma once

#include <memory>
#include <vector>

#include "solve/time/matching.h"
#include "solve/time/model.h"
#include "solve/time/proof.h"
#include "solve/time/search.h"
#include "solve/time/state.h"
#include "solve/workspace.h"

namespace lplb {

/// What solver `time` keeps in a workspace, and the part of its result that is no tokens.
struct TimeScratch {
  solvers::TimeModel model;
  solvers::TimeState state;
  solvers::TimeProof proof;
  solvers::Matching matching;
  solvers::SearchScratch search;
  std::vector<Load> best;         // [num places]
  std::vector<Load> shares;       // [num places]
  std::vector<Index> order, set;  // experts; ranks
  std::vector<char> inside;       // [num_ranks]
  std::unique_ptr<Workspace> flow;
};

}  // namespace lplb
