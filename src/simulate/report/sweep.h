// SPDX-License-Identifier: MIT
#pragma once

#include <string>
#include <vector>

#include "lplb/simulate.h"

// Replays that differ in one setting: how many redundants does a model need?
namespace lplb::report {

struct Sweep {
  std::string setting;               ///< as the command names it: "redundants"
  std::vector<std::int64_t> values;  ///< ascending
  std::vector<std::string> policies;
  /// One for each value. Policies that cannot be replayed with it are missing; if none can, the
  /// report is empty.
  std::vector<SimulateReport> reports;
  std::vector<std::string> problems;  ///< which policies are missing, and why
};

/// The policy's figures with the i-th value; null if it is missing.
const PolicyReport* find(const Sweep& sweep, std::size_t i, const std::string& policy);

/// For each exact policy from which value on its mean imbalance stays at most 1.05, as a sentence.
/// Empty if no policy is exact, or the setting is neither redundants nor num-replicas.
std::string enough_text(const Sweep& sweep);

/// The figures of all replays without those of layers, time and ranks, as JSON.
std::string sweep_json(const Sweep& sweep);

/// One self-contained page: a chart and a table of the mean imbalance. It shows `command` as the
/// command that made it.
std::string sweep_html(const Sweep& sweep, const std::string& command);

}  // namespace lplb::report
