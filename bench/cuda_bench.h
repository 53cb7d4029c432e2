// SPDX-License-Identifier: MIT
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "bench/workloads.h"

// Benchmarks of the device: times of graph replays, see METHOD.md. What is timed is compared with
// the CPU's result first.
namespace lplb::bench {

/// Over the batches of a benchmark.
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
  std::function<CudaTiming()> run;  ///< throws where a result is wrong
};

/// Appends its benchmarks for each of `cases`.
using CudaSuite = void (*)(const std::vector<Case>& cases, std::vector<CudaBenchmark>& benchmarks);

/// Filled by the *_cuda_bench.cu files at start.
std::vector<CudaSuite>& cuda_suites();

/// The median and the 99th percentile of `times`.
CudaTiming summarize(std::vector<double> times);

/// Runs what `filter` matches over the instances, and over those of `trace` where it is not empty.
/// Prints a table, or where `json` is not empty writes JSON there. Throws ArgumentError (no GPU, a
/// filter without a match) and FileError.
void run_cuda_benchmarks(const std::string& filter, const std::string& trace,
                         const std::string& json);

}  // namespace lplb::bench
