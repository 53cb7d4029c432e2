// SPDX-License-Identifier: MIT
#pragma once

#include <string>

#include "lplb/simulate.h"

namespace lplb::report {

/// Which two policies answer the page's question, and what they say.
struct Answer {
  const PolicyReport* best = nullptr;  ///< the "+lplb" policy of least mean imbalance
  /// What it is held against: "eplb", else "none", else the first policy that does not solve.
  const PolicyReport* base = nullptr;
  double cut = 0;  ///< where both are: 1 - mean imbalance of best / that of base
};

/// Policies without a finite mean imbalance do not take part.
Answer find_answer(const SimulateReport& report);

/// "EPLB", "no replicas", or the policy's name, escaped.
std::string spoken(const PolicyReport& policy);

/// The share of a layer's expert time that the average rank waits for the slowest: 1 - mean / max
/// load, with time in proportion to tokens.
double waiting_share(double imbalance);

/// The top of the page: question, answer, what it means, and the figures behind it.
std::string answer_html(const SimulateReport& report);

}  // namespace lplb::report
