// SPDX-License-Identifier: MIT
#pragma once

#include <string>

#include "lplb/simulate.h"

namespace lplb::report {

/// What was read of a file that report_json() wrote.
struct ReadReport {
  /// The trace, the time, and of each policy what is one number, `imbalance` and `over_time`. What
  /// is of layers, ranks and experts is left out.
  SimulateReport report;
  /// Each key of "trace" and "settings" that is no list, with its value as JSON: "settings.window".
  std::vector<std::pair<std::string, std::string>> facts;
};

/// Reads a report from its JSON; "-" is standard input. Throws FileError if it is none.
ReadReport read_report(const std::string& path);

}  // namespace lplb::report
