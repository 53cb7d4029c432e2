// SPDX-License-Identifier: MIT
#include <memory>

#include "backend.h"
#include "commands.h"
#include "exit_status.h"
#include "options.h"
#include "outputs.h"

#ifdef LPLB_HAVE_BENCH
#include "bench/bench_main.h"
#endif
#ifdef LPLB_HAVE_CUDA_BENCH
#include "bench/cuda_bench.h"
#endif

namespace lplb::app {
namespace {

struct BenchArguments {
  std::string json;
  std::string filter;
  std::string min_time;
  std::string backend = "cpu";
  std::string trace;
};

#ifdef LPLB_HAVE_BENCH
void run_on_cpu(const BenchArguments& options) {
  std::vector<std::string> args;
  const auto pass = [&](const char* name, const std::string& value) {
    if (!value.empty()) args.insert(args.end(), {name, value});
  };
  pass("--json", options.json);
  pass("--filter", options.filter);
  pass("--min-time", options.min_time);
  pass("--trace", options.trace);
  if (bench::run_benchmarks(args) != 0) throw CLI::RuntimeError(kFailed);
}
#else
void run_on_cpu(const BenchArguments&) {
  throw ArgumentError("bench",
                      "this build has no benchmarks of the CPU; install Google Benchmark (Debian: "
                      "libbenchmark-dev), configure with -DLPLB_BUILD_BENCH=ON and build again");
}
#endif

#ifdef LPLB_HAVE_CUDA_BENCH
void run_on_gpu(const BenchArguments& options) {
  if (!options.min_time.empty()) {
    throw ArgumentError("--min-time",
                        "is for --backend cpu; on the GPU the number of replays is fixed");
  }
  bench::run_cuda_benchmarks(options.filter.empty() ? "." : options.filter, options.trace,
                             options.json);
}
#else
void run_on_gpu(const BenchArguments&) {
  throw ArgumentError("bench",
                      "this build has no benchmarks; configure with -DLPLB_BUILD_BENCH=ON "
                      "and build again");
}
#endif

void run(const BenchArguments& options) {
  const Outputs outputs({{"--json", options.json}}, {{"--trace", options.trace}});
  const BackendChoice backend(options.backend);
  try {
    backend.backend() == Backend::kCuda ? run_on_gpu(options) : run_on_cpu(options);
  } catch (const FileError& error) {
    const bool to_standard = options.json.empty() || options.json == "-";
    if (error.path() != (to_standard ? "standard output" : options.json)) throw;  // the trace
    throw OutputError(error.what());
  }
}

}  // namespace

void add_bench(CLI::App& program) {
  CLI::App* command =
      program.add_subcommand("bench", "Measure the speed of solving, mapping, placing and replay");
  auto options = std::make_shared<BenchArguments>();
  add_text(*command, "--filter", kSettings, "REGEX", options->filter,
           "Run only the benchmarks whose name matches");
  add_text(*command, "--min-time", kSettings, "SECONDS", options->min_time,
           "Time spent on each benchmark (default: 0.2); only with --backend cpu");
  add_backend(*command, options->backend,
              "What is measured: the CPU, or the GPU by replaying CUDA graphs; auto: the GPU if "
              "there is one");
  add_text(*command, "--trace", kInput, kFile, options->trace,
           "Also solve recorded loads: batches of 1024 tokens of this trace");
  add_json(*command, options->json);
  command->callback([options] { run(*options); });
}

}  // namespace lplb::app
