// SPDX-License-Identifier: MIT
#include <cstdio>
#include <exception>
#include <regex>

#include "bench/cuda_bench.h"
#include "lplb/backend.h"

/// lplb_gpu_bench [FILTER]: a table of the device's benchmarks.
int main(int argc, char** argv) try {
  if (!lplb::cuda_support().missing.empty()) {
    std::fprintf(stderr, "backend cuda: %s\n", lplb::cuda_support().missing.c_str());
    return 1;
  }
  const std::regex filter(argc > 1 ? argv[1] : ".", std::regex_constants::extended);
  std::printf("%s\n%-28s %10s %10s %8s %8s  %s\n", lplb::cuda_support().devices[0].name.c_str(),
              "benchmark", "median us", "p99 us", "must", "aim", "note");
  for (const lplb::bench::CudaBenchmark& b : lplb::bench::cuda_benchmarks()) {
    if (!std::regex_search(b.name, filter)) continue;
    const lplb::bench::CudaTiming timing = b.run();
    std::printf("%-28s %10.3f %10.3f %8.1f %8.1f  %s\n", b.name.c_str(), timing.median_us,
                timing.p99_us, b.must_us, b.aim_us, timing.note.c_str());
    std::fflush(stdout);
  }
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
