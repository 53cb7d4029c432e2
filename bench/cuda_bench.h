// SPDX-License-Identifier: MIT
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace lplb::bench {

/// Of one benchmark on the device: over its batches, each timed by graph replay.
struct CudaTiming {
  double median_us = 0;
  double p99_us = 0;
  std::string note;
};

struct CudaBenchmark {
  std::string name;
  double must_us = 0;  ///< the target for the median; 0: none
  double aim_us = 0;
  std::function<CudaTiming()> run;  ///< throws where a result is wrong
};

/// Filled by the *_cuda_bench.cu files at start.
std::vector<CudaBenchmark>& cuda_benchmarks();

/// The median and the 99th percentile of `times`.
CudaTiming summarize(std::vector<double> times);

}  // namespace lplb::bench
