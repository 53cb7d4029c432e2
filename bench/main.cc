// SPDX-License-Identifier: MIT
#include <cstdio>

#include "bench/bench_main.h"
#include "lplb/error.h"

// Runs the benchmarks of `lplb bench` without the command.
int main(int argc, char** argv) {
  try {
    return lplb::bench::run_benchmarks({argv + 1, argv + argc});
  } catch (const lplb::Error& error) {
    std::fprintf(stderr, "lplb_benchmarks: %s\n", error.what());
    return 2;
  }
}
