// SPDX-License-Identifier: MIT
#pragma once

#include <string>

#include "lplb/simulate.h"

namespace lplb::report {

/// Every figure of report_json() that is one number a policy: a row a figure, a column a policy.
std::string summary_table(const SimulateReport& report);

/// Mean and worst imbalance: a row a layer, by the model's number. A script sorts it.
std::string layer_table(const SimulateReport& report);

/// What was replayed and how, as report_json()'s "trace" and "settings".
std::string settings_table(const SimulateReport& report);

}  // namespace lplb::report
