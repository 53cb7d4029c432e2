// SPDX-License-Identifier: MIT
#include "bench/bench_main.h"

#include <benchmark/benchmark.h>

#include <cmath>
#include <exception>
#include <optional>
#include <sstream>

#include "bench/solve_bench.h"
#include "bench/workloads.h"
#include "core/check.h"
#include "core/format.h"
#include "io/output.h"

namespace lplb::bench {
namespace {

struct Options {
  std::optional<std::string> json;
  std::optional<std::string> export_instances;
  std::string filter = ".";
  std::string min_time = "0.2";
  std::string trace;
};

void check_options(const Options& options) {
  double seconds = 0;
  std::size_t length = 0;
  try {
    seconds = std::stod(options.min_time, &length);
  } catch (const std::exception&) {
    length = 0;
  }
  check_argument(length == options.min_time.size() && std::isfinite(seconds) && seconds > 0,
                 "--min-time", "\"{}\" is not a number > 0", options.min_time);
  parse_filter(options.filter);
}

Options parse(const std::vector<std::string>& args) {
  Options options;
  for (std::size_t i = 0; i < args.size(); ++i) {
    const std::size_t equals = args[i].find('=');
    const std::string name = args[i].substr(0, equals);
    const bool known = name == "--json" || name == "--export-instances" || name == "--filter" ||
                       name == "--min-time" || name == "--trace";
    check_argument(known, name.c_str(), "is not an option of the benchmarks");
    check_argument(equals != std::string::npos || i + 1 < args.size(), name.c_str(),
                   "has no value");
    const std::string value = equals != std::string::npos ? args[i].substr(equals + 1) : args[++i];
    if (name == "--json") options.json = value;
    if (name == "--export-instances") options.export_instances = value;
    if (name == "--filter") options.filter = value;
    if (name == "--min-time") options.min_time = value;
    if (name == "--trace") options.trace = value;
  }
  check_options(options);
  return options;
}

std::string with_unit(double seconds) {
  if (seconds < 1e-6) return formatted("{:.1f} ns", seconds * 1e9);
  if (seconds < 1e-3) return formatted("{:.2f} us", seconds * 1e6);
  if (seconds < 1) return formatted("{:.2f} ms", seconds * 1e3);
  return formatted("{:.2f} s", seconds);
}

// Prints one line for each benchmark. The time is processor time, or wall time if the benchmark
// asks for it (benchmarks with threads do).
class TableReporter : public benchmark::BenchmarkReporter {
 public:
  bool ReportContext(const Context&) override {
    print(formatted("{:<34} {:>12} {:>14}\n", "benchmark", "time/op", "items/s"));
    return true;
  }

  void ReportRuns(const std::vector<Run>& runs) override {
    for (const Run& run : runs) {
      const std::string name = run.benchmark_name();
      if (run.error_occurred) {
        print(formatted("{:<34} failed: {}\n", name, run.error_message));
        continue;
      }
      const bool wall = name.ends_with("/real_time");
      const double total = wall ? run.real_accumulated_time : run.cpu_accumulated_time;
      const auto items = run.counters.find("items_per_second");
      const std::string rate =
          items == run.counters.end() ? std::string() : formatted("{:.0f}", items->second.value);
      print(formatted("{:<34} {:>12} {:>14}\n", name,
                      with_unit(total / static_cast<double>(run.iterations)), rate));
    }
  }

  /// Throws the FileError of the first line that could not be written.
  void check_output() const {
    if (problem_) std::rethrow_exception(problem_);
  }

 private:
  /// NOTE: an exception must not pass through the benchmark library, so it is kept for
  /// check_output().
  void print(const std::string& line) {
    if (problem_) return;
    try {
      io::write_file("-", line);
    } catch (const FileError&) {
      problem_ = std::current_exception();
    }
  }

  std::exception_ptr problem_;
};

// The reporter `Base`, which in addition remembers whether any benchmark failed.
template <class Base>
class Checked : public Base {
 public:
  using Run = benchmark::BenchmarkReporter::Run;
  void ReportRuns(const std::vector<Run>& runs) override {
    for (const Run& run : runs) failed_ = failed_ || run.error_occurred;
    Base::ReportRuns(runs);
  }
  bool failed() const { return failed_; }

 private:
  bool failed_ = false;
};

template <class Reporter>
int run_with(Reporter& reporter, const std::string& filter) {
  // If the filter matches nothing, the library writes a message here. It is dropped, because the
  // check below throws.
  std::ostringstream unsaid;
  reporter.SetErrorStream(&unsaid);
  const std::size_t matched = benchmark::RunSpecifiedBenchmarks(&reporter);
  check_argument(matched > 0, "--filter", "\"{}\" matches no benchmark", filter);
  return reporter.failed() ? 1 : 0;
}

}  // namespace

int run_benchmarks(const std::vector<std::string>& args) {
  const Options options = parse(args);
  if (options.export_instances) {
    io::write_file(*options.export_instances, workloads_json());
    return 0;
  }
  if (!options.trace.empty()) register_recorded(options.trace);
  std::vector<std::string> flags = {"lplb bench", "--benchmark_filter=" + options.filter,
                                    "--benchmark_min_time=" + options.min_time};
  std::vector<char*> argv;
  for (std::string& flag : flags) argv.push_back(flag.data());
  argv.push_back(nullptr);
  int argc = static_cast<int>(flags.size());
  benchmark::Initialize(&argc, argv.data());

  if (!options.json) {
    Checked<TableReporter> reporter;
    const int status = run_with(reporter, options.filter);
    reporter.check_output();
    return status;
  }
  std::ostringstream out;
  Checked<benchmark::JSONReporter> reporter;
  reporter.SetOutputStream(&out);
  const int status = run_with(reporter, options.filter);
  io::write_file(*options.json, out.str());
  return status;
}

}  // namespace lplb::bench
