// SPDX-License-Identifier: MIT
#pragma once

#include <string>
#include <vector>

#include "lplb/simulate.h"
#include "simulate/report/charts.h"

// Parts of charts that have a line for each policy.
namespace lplb::report {

/// How high a chart is, so that the names of this many lines fit beside it.
int chart_height(std::size_t num_lines);

/// The vertical position of a value. Values beyond the axis are above 0.
double height_at(const Axis& axis, double value, int height);

/// The lines and numbers of the vertical axis.
std::string value_marks(const Axis& axis, int height);

/// How much room the names need beside the chart, in pixels. `cut`: some line ends beyond the axis.
int end_width(const SimulateReport& report, bool cut);

/// The names of the lines, with a leader from the end of each. A line ends at `last`.
std::string line_ends(const SimulateReport& report, const std::vector<std::string>& classes,
                      const std::vector<double>& last, const Axis& axis, int height);

}  // namespace lplb::report
