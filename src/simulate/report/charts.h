// SPDX-License-Identifier: MIT
#pragma once

#include <string>
#include <vector>

#include "lplb/simulate.h"

namespace lplb::report {

/// Marks from `low` to `high`, `step` apart; the first is `low`.
struct Axis {
  double low = 0;
  double high = 1;
  double step = 1;
  int decimals = 0;  ///< that tell its marks apart

  int marks() const;
  double mark(int i) const { return low + i * step; }
  /// Where `value` lies, 0 to 100; outside values are clamped.
  double at(double value) const;
};

/// The axis from `low` on that holds `high` in at most `max_steps` steps of 1, 2 or 5 times a power
/// of ten. It spans `min_span` at least.
Axis make_axis(double low, double high, double min_span, int max_steps);

// Figures as HTML with inline SVG that is as wide as its place: horizontal coordinates are
// percentages, so that text keeps its size from a phone to a page of paper.

/// Distribution of the imbalance: a row a policy.
std::string ranges_html(const SimulateReport& report);

/// Imbalance over time: a line a policy, named at its end.
std::string over_time_html(const SimulateReport& report);

/// Rank x time before and after; empty where the report has no rank loads.
std::string heat_html(const SimulateReport& report);

}  // namespace lplb::report
