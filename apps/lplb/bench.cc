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

namespace lplb::app {
namespace {

struct Options {
  std::string json;
  std::string filter;
  std::string min_time;
  std::string backend = "cpu";
  std::string trace;
};

#ifdef LPLB_HAVE_BENCH
void run(const Options& options) {
  const Outputs outputs({{"--json", options.json}});
  std::vector<std::string> args;
  const auto pass = [&](const char* name, const std::string& value) {
    if (!value.empty()) args.insert(args.end(), {name, value});
  };
  pass("--json", options.json);
  pass("--filter", options.filter);
  pass("--min-time", options.min_time);
  pass("--trace", options.trace);
  pass("--backend", backend_name(BackendChoice(options.backend).backend()));
  int status = 0;
  try {
    status = bench::run_benchmarks(args);
  } catch (const FileError& error) {
    const std::string out =
        options.json.empty() || options.json == "-" ? "standard output" : options.json;
    if (error.path() != out) throw;  // the trace
    throw OutputError(error.what());
  }
  if (status != 0) throw CLI::RuntimeError(kFailed);
}
#else
void run(const Options&) {
  throw ArgumentError("bench",
                      "this build has no benchmarks; install Google Benchmark (Debian: "
                      "libbenchmark-dev), configure with -DLPLB_BUILD_BENCH=ON and build again");
}
#endif

}  // namespace

void add_bench(CLI::App& program) {
  CLI::App* command = program.add_subcommand("bench", "Measure solving, mapping, placing, replay");
  auto options = std::make_shared<Options>();
  add_text(*command, "--filter", kSettings, "REGEX", options->filter,
           "Only benchmarks whose name matches");
  add_text(*command, "--min-time", kSettings, "SECONDS", options->min_time,
           "Time spent on each benchmark (default: 0.2); cpu alone");
  add_backend(*command, options->backend,
              "What is measured: the CPU, or the GPU by replay of CUDA graphs; auto: the GPU where "
              "there is one");
  add_text(*command, "--trace", kInput, kFile, options->trace,
           "Solve recorded loads too: batches of 1024 tokens of a trace");
  add_json(*command, options->json);
  command->callback([options] { run(*options); });
}

}  // namespace lplb::app
