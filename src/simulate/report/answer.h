// SPDX-License-Identifier: MIT
#pragma once

#include <string>

#include "lplb/simulate.h"

namespace lplb::report {

/// The two policies that answer the page's question, and the answer.
struct Answer {
  const PolicyReport* best = nullptr;  ///< the "+lplb" policy with the smallest mean imbalance
  /// What `best` is compared with: "eplb", otherwise "none", otherwise the first policy that does
  /// not solve.
  const PolicyReport* base = nullptr;
  double cut = 0;  ///< if both exist: 1 - mean imbalance of best / that of base
};

/// Finds these two policies. Policies without a finite mean imbalance are left out.
Answer find_answer(const SimulateReport& report);

/// What the text calls a policy: "EPLB", "no replicas", or the policy's name, escaped.
std::string spoken(const PolicyReport& policy);

/// The share of a layer's expert time that the average rank waits for the slowest: 1 - mean / max
/// load. It takes time to be in proportion to tokens.
double waiting_share(double imbalance);

/// The top of the page: the question, the answer, what it means, and the figures it is based on.
std::string answer_html(const SimulateReport& report);

}  // namespace lplb::report
