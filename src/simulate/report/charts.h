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

/// Imbalance axes span at least this: noise must not fill them.
inline constexpr double kMinSpan = 0.05;

/// Where an axis that starts at 1 must end to show most policies, given the worst imbalance of
/// each. Policies that are far worse would squeeze all others into a third of the axis, so they are
/// cut off; at least half of the policies are not.
double axis_end(std::vector<double> worst, double min_span = kMinSpan);

// The figures are HTML with inline SVG. The SVG is as wide as its container and has percentages as
// horizontal coordinates, so text keeps its size from a phone to a page of paper. The page's script
// draws them again, in the same way, for other policies, layers and batches.

/// The distribution of the imbalance, one row for each policy.
std::string ranges_html(const SimulateReport& report);
/// The same with an axis that ends at `end`.
std::string ranges_to_html(const SimulateReport& report, double end);

/// The imbalance over time, one line for each policy. The policy's name is at the end of its line.
/// Changes of the domain and rebalances are marked.
std::string over_time_html(const SimulateReport& report);
/// The same with an axis that ends at `end`.
std::string over_time_to_html(const SimulateReport& report, double end);

/// Two maps of load by rank and time, of Answer's base and best. Empty if the report has no rank
/// loads.
std::string heat_html(const SimulateReport& report);

/// The hottest experts of a layer, and how many replicas each placement would give them after the
/// last batch. Empty if the report has no experts.
std::string experts_html(const SimulateReport& report);

/// What a reader chooses: policies, a layer, a range of batches, the scale. Hidden without a
/// script.
std::string controls_html(const SimulateReport& report);

}  // namespace lplb::report
