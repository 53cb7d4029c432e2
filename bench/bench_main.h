// SPDX-License-Identifier: MIT
#pragma once

#include <string>
#include <vector>

namespace lplb::bench {

/// Runs the registered benchmarks and prints a table of name, time an operation and operations a
/// second. `args`, each with a value after it or after '=':
///   --json FILE              Google Benchmark's JSON instead of the table; "-" is standard output
///   --filter RE              only names that match this extended regular expression
///   --min-time S             seconds a benchmark runs, > 0; default 0.2
///   --trace FILE             solve recorded loads too
///   --export-instances FILE  write what the split benchmarks solve, as JSON, and run nothing
/// Returns 0, or 1 where a benchmark failed. Throws ArgumentError (a filter without a match too)
/// and FileError.
int run_benchmarks(const std::vector<std::string>& args);

}  // namespace lplb::bench
