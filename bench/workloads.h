// SPDX-License-Identifier: MIT
#pragma once

#include <functional>
#include <regex>
#include <string>
#include <string_view>
#include <vector>

#include "support/instances.h"

namespace lplb::bench {

/// How many batches take turns in a split benchmark: so many that branch prediction cannot learn
/// them.
inline constexpr int kNumBatches = 64;

/// make_workload(name, kNumBatches), which each process makes only once.
const testing::Workload& workload(const std::string& name);

/// All workloads as JSON: {"workloads": [{"name", "placement", "load"}]}. "placement" and "load"
/// are as the command reads them (docs/formats.md). This is for solvers that are measured outside
/// of this program.
std::string workloads_json();

/// The loads of a benchmark, for one placement or several: a recorded trace has one for each layer.
struct Case {
  std::string name;
  /// Makes workloads with `num_batches` batches in all, or fewer if the trace has fewer.
  std::function<std::vector<testing::Workload>(int num_batches)> make;
};

/// The synthetic instances of METHOD.md, hard ones included.
std::vector<Case> synthetic_cases();

/// The cases of a trace, "recorded:cube8x2" and so on: one for each shape of placement that the
/// number of experts allows. A layer's placement is made from its first batches, and the case has
/// the batches after these. Batches have kRecordedTokens tokens. Throws FileError, and throws
/// ArgumentError if the trace is too short or a batch has more than 2^31 - 1 tokens.
std::vector<Case> recorded_cases(const std::string& trace);
inline constexpr int kRecordedTokens = 1024;

/// Whether the case has this shape, synthetic or recorded.
bool is_shape(const Case& c, std::string_view shape);

/// Whether the case has hard loads, "mild:SHAPE" or "skew:SHAPE"; and whether its shape comes only
/// with these.
bool is_hard(const Case& c);
bool is_only_hard(const Case& c);

/// Parses --filter, an extended regular expression. Throws ArgumentError.
std::regex parse_filter(const std::string& filter);

}  // namespace lplb::bench
