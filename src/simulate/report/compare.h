// SPDX-License-Identifier: MIT
#pragma once

#include <array>
#include <string>
#include <vector>

#include "simulate/report/read_report.h"

namespace lplb::report {

/// Two reports, side by side: A and B.
struct Pair {
  std::array<ReadReport, 2> side;
  std::array<std::string, 2> path;
};

/// A policy of one report or both. The one that lacks it has a null.
struct Both {
  std::string name;
  std::array<const PolicyReport*, 2> side;
};

/// The policies of A, then those that only B has.
std::vector<Both> policies_of(const Pair& pair);

/// A fact that differs; a side that does not have it has an empty text.
struct Difference {
  std::string key;
  std::array<std::string, 2> value;
};
std::vector<Difference> differences(const Pair& pair);

/// 1 - B's mean imbalance / A's, as "-1.6 %" where B is lower. A dash if one has none.
std::string change_text(const Both& both);

/// One self-contained page: what differs, the figures, and the charts beside each other with the
/// same axes. It shows `command` as the command that made it.
std::string compare_html(const Pair& pair, const std::string& command);

}  // namespace lplb::report
