// SPDX-License-Identifier: MIT
#pragma once

#include <functional>
#include <regex>
#include <string>
#include <string_view>
#include <vector>

#include "support/instances.h"

namespace lplb::bench {

/// Batches that a split benchmark rotates through: enough that no branch is learned by heart.
inline constexpr int kNumBatches = 64;

/// make_workload(name, kNumBatches), made once a process.
const testing::Workload& workload(const std::string& name);

/// All workloads: {"workloads": [{"name", "placement", "load"}]}, the latter two as the command
/// reads them (docs/formats.md). For solvers that are measured from outside this program.
std::string workloads_json();

/// A benchmark's loads, of one placement or of several: a recorded trace has one a layer.
struct Case {
  std::string name;
  /// So many batches in all, or fewer where a trace has no more.
  std::function<std::vector<testing::Workload>(int num_batches)> make;
};

/// The instances of METHOD.md.
std::vector<Case> synthetic_cases();

/// "recorded:cube8x2" and so on, for each of the placements' shapes that the experts of the trace
/// can be divided into: each layer placed for its first batches, then what follows them, in
/// batches of kRecordedTokens. Throws FileError, and ArgumentError for a trace that is too short or
/// has batches past 2^31 - 1 tokens.
std::vector<Case> recorded_cases(const std::string& trace);
inline constexpr int kRecordedTokens = 1024;

/// Whether it is `shape`, made or recorded.
bool is_shape(const Case& c, std::string_view shape);

/// --filter, an extended regular expression. Throws ArgumentError.
std::regex parse_filter(const std::string& filter);

}  // namespace lplb::bench
