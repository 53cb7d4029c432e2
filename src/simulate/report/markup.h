// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "lplb/simulate.h"

namespace lplb::report {

/// Escapes `text` for the content of an element or a quoted attribute. The result is one printable
/// line.
std::string escape(std::string_view text);

/// Shortens `text` to at most `max` characters: an ellipsis replaces the middle of longer text.
/// Does not escape.
std::string shorten(std::string_view text, std::size_t max);

/// `value` with this many decimals; a dash if it is not a finite number.
std::string fixed(double value, int decimals);
std::string percent(double share, int decimals = 1);  ///< 0.146 is "14.6 %"
std::string grouped(std::int64_t value);              ///< 10400 is "10,400"

/// 52800000 is "52.8 MB": units of 1000.
std::string bytes_text(double bytes);

/// "1 layer", "26 layers", "2 batches"
std::string counted(std::int64_t count, std::string_view noun);

/// `text` without typographic characters, for a terminal.
std::string plain(const std::string& text);

/// A command, escaped, with each word in a span, so that no line breaks at a hyphen.
std::string words(const std::string& command);

/// The shortest text that reads back as `value`; empty if `value` is not finite.
std::string exact(double value);
/// exact() of each value, separated by blanks.
std::string exact_list(const std::vector<double>& values);

/// Attributes from which a program can read a figure of the page: data-policy, data-metric (the
/// path in report_json()) and data-value. A blank comes first.
std::string data_attributes(std::string_view policy, std::string_view metric, double value);

/// Whether the policy's split is solved by LPLB.
bool is_lplb(const PolicyReport& policy);

/// Whether some policy copies experts for each batch.
bool makes_copies(const SimulateReport& report);

/// The mark next to each figure whose loads are synthetic; otherwise empty.
std::string synthetic_badge(const SimulateReport& report);

/// The batches of a time bucket: "batch 7" or "batches 4 to 7".
std::string bucket_name(const SimulateReport& report, std::size_t bucket);

}  // namespace lplb::report
