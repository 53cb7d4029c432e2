// SPDX-License-Identifier: MIT
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "bench/workloads.h"

// Benchmarks of the device: times of graph replays, see METHOD.md. The result of what is timed is
// compared with the CPU's result.
namespace lplb::bench {

/// The median and the 99th percentile of the times of a benchmark.
struct CudaTiming {
  double median_us = 0;
  double p99_us = 0;
  std::size_t num_times = 0;
  std::string note;
};

/// Microseconds that the median, and the 99th percentile, should not exceed; 0: no such target.
struct CudaTarget {
  double median_us = 0;
  double p99_us = 0;
};

struct CudaBenchmark {
  std::string name;
  CudaTarget must, aim;
  std::function<CudaTiming()> run;  ///< throws if a result is wrong
};

/// A function that appends the benchmarks of one file for each of `cases`.
using CudaSuite = void (*)(const std::vector<Case>& cases, std::vector<CudaBenchmark>& benchmarks);

/// All suites. The *_cuda_bench.cu files add theirs before main() starts.
std::vector<CudaSuite>& cuda_suites();

/// The median and the 99th percentile of `times`.
CudaTiming summarize(std::vector<double> times);

/// Runs the benchmarks that match `filter`, over the instances of METHOD.md, and over those of
/// `trace` unless it is empty. Prints a table, or writes JSON to `json` unless that is empty.
/// Throws ArgumentError (no GPU, or the filter matches nothing) and FileError.
void run_cuda_benchmarks(const std::string& filter, const std::string& trace,
                         const std::string& json);

}  // namespace lplb::bench
