// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "lplb/simulate.h"

namespace lplb::report {

/// `text` for the content of an element or a quoted attribute: one printable line, escaped.
std::string escape(std::string_view text);

/// At most `max` characters: the middle of longer text gives way to an ellipsis. Not escaped.
std::string shorten(std::string_view text, std::size_t max);

/// What is not a finite number is a dash.
std::string fixed(double value, int decimals);
std::string percent(double share, int decimals = 1);  ///< 0.146 is "14.6 %"
std::string grouped(std::int64_t value);              ///< 10400 is "10,400"

std::string counted(std::int64_t count, std::string_view noun);  ///< "1 layer", "26 layers"

/// The shortest text that reads back as `value`; empty where it is not finite.
std::string exact(double value);
/// `values` as exact(), with blanks between.
std::string exact_list(const std::vector<double>& values);

/// Attributes that let a program read a figure off the page, with a blank before: data-policy and
/// data-metric (the path in report_json()), data-value.
std::string data_attributes(std::string_view policy, std::string_view metric, double value);

/// Whether the policy's split is solved for: it then is one of LPLB's.
bool is_lplb(const PolicyReport& policy);

/// CSS classes of each policy, the same in every figure: a colour ("c0" to "c8") that is its own as
/// long as there are enough, and how it splits ("unsplit", "even", "exact": the lines' dashes).
std::vector<std::string> policy_classes(const SimulateReport& report);

/// The mark beside each figure whose loads were made by a formula; else empty.
std::string synthetic_badge(const SimulateReport& report);

/// "batch 7" or "batches 4 to 7": what time bucket `bucket` holds.
std::string bucket_name(const SimulateReport& report, std::size_t bucket);

}  // namespace lplb::report
