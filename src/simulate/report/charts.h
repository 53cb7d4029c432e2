// SPDX-License-Identifier: MIT
#pragma once

#include <string>
#include <vector>

#include "lplb/simulate.h"

namespace lplb::report {

/// An axis with marks from `low` to `high`, `step` apart. The first mark is at `low`.
struct Axis {
  double low = 0;
  double high = 1;
  double step = 1;
  int decimals = 0;  ///< how many decimals its marks need to differ

  int marks() const;
  double mark(int i) const { return low + i * step; }
  /// The position of `value`, 0 to 100. Values outside the axis are clamped.
  double at(double value) const;
};

/// Makes the axis that starts at `low` and reaches `high` in at most `max_steps` steps of 1, 2 or 5
/// times a power of ten. It spans at least `min_span`.
Axis make_axis(double low, double high, double min_span, int max_steps);

// The figures are HTML with inline SVG. The SVG is as wide as its container and has percentages as
// horizontal coordinates, so text keeps its size from a phone to a page of paper.

/// The distribution of the imbalance, one row for each policy.
std::string ranges_html(const SimulateReport& report);

/// The imbalance over time, one line for each policy. The policy's name is at the end of its line.
std::string over_time_html(const SimulateReport& report);

/// Two maps of load by rank and time, of Answer's base and best. Empty if the report has no rank
/// loads.
std::string heat_html(const SimulateReport& report);

}  // namespace lplb::report
