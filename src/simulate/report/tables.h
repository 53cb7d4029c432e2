// SPDX-License-Identifier: MIT
#pragma once

#include <string>

#include "lplb/simulate.h"

namespace lplb::report {

/// Every figure of report_json() that is one number for each policy: a row is a figure, a column is
/// a policy.
std::string summary_table(const SimulateReport& report);

/// Mean and worst imbalance, one row for each layer, with the model's layer numbers. A script can
/// sort it.
std::string layer_table(const SimulateReport& report);

/// What was replayed and how: "trace" and "settings" of report_json().
std::string settings_table(const SimulateReport& report);

}  // namespace lplb::report
