// SPDX-License-Identifier: MIT
#pragma once

#include <string>
#include <vector>

namespace lplb::bench {

/// Runs the registered benchmarks and prints a table with the name, the time of an operation and
/// the operations per second. Each of `args` has a value as the next argument or after '=':
///   --json FILE              Google Benchmark's JSON instead of the table; "-" is standard output
///   --filter RE              run only names that match this extended regular expression
///   --min-time S             how many seconds each benchmark runs, > 0; default 0.2
///   --trace FILE             also solve recorded loads
///   --export-instances FILE  write the instances of the split benchmarks as JSON, and run nothing
/// Returns 0, or 1 if a benchmark failed. Throws ArgumentError (also if the filter matches nothing)
/// and FileError.
int run_benchmarks(const std::vector<std::string>& args);

}  // namespace lplb::bench
