// SPDX-License-Identifier: MIT
#include "bench/cuda_bench.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string_view>

#include "bench/workloads.h"
#include "core/check.h"
#include "core/format.h"
#include "io/output.h"
#include "lplb/backend.h"

namespace lplb::bench {
namespace {

/// The ratio of two medians of one run.
struct Ratio {
  const char* name;
  const char* slow;
  const char* fast;
  double must, aim;  // the ratio should be at least this
};
constexpr Ratio kRatios[] = {
    {"ratio/cube8x2/ipm:cut", "ipm/cube8x2", "solve/cube8x2/cut", 8, 15},
};

struct Row {
  CudaBenchmark benchmark;
  CudaTiming timing;
};

bool within(const CudaTiming& timing, const CudaTarget& target) {
  return (target.median_us == 0 || timing.median_us <= target.median_us) &&
         (target.p99_us == 0 || timing.p99_us <= target.p99_us);
}

/// The hardest target that was met: "aim", "must" or "no". Empty if the benchmark has no target.
std::string verdict(const CudaBenchmark& benchmark, const CudaTiming& timing) {
  const bool has_target = benchmark.must.median_us > 0 || benchmark.must.p99_us > 0;
  if (!has_target) return "";
  return within(timing, benchmark.aim) ? "aim" : within(timing, benchmark.must) ? "must" : "no";
}

std::string target_text(const CudaTarget& target) {
  if (target.median_us == 0) return "";
  return target.p99_us == 0 ? formatted("{:g}", target.median_us)
                            : formatted("{:g}, {:g}", target.median_us, target.p99_us);
}

std::string header_text() {
  return formatted("{}\n{:<42} {:>10} {:>10} {:>8} {:>8} {:>5}  {}\n",
                   cuda_support().devices[0].name, "benchmark", "median us", "p99 us", "must",
                   "aim", "met", "note");
}

std::string row_text(const Row& row) {
  const auto& [benchmark, timing] = row;
  return formatted("{:<42} {:>10.3f} {:>10.3f} {:>8} {:>8} {:>5}  {}\n", benchmark.name,
                   timing.median_us, timing.p99_us, target_text(benchmark.must),
                   target_text(benchmark.aim), verdict(benchmark, timing), timing.note);
}

nlohmann::ordered_json row_json(const Row& row) {
  const auto& [benchmark, timing] = row;
  const auto target = [](const CudaTarget& t) {
    return nlohmann::ordered_json{{"median_us", t.median_us}, {"p99_us", t.p99_us}};
  };
  nlohmann::ordered_json json = {{"name", benchmark.name},
                                 {"median_us", timing.median_us},
                                 {"p99_us", timing.p99_us},
                                 {"num_times", timing.num_times}};
  if (benchmark.must.median_us > 0) {
    json["must"] = target(benchmark.must);
    json["aim"] = target(benchmark.aim);
    json["met"] = verdict(benchmark, timing);
  }
  json["note"] = timing.note;
  return json;
}

/// median(slow) / median(fast) of `rows`; 0 if one of them is missing.
double value_of(const Ratio& ratio, const std::vector<Row>& rows) {
  const auto median = [&](const char* name) {
    const auto found = std::find_if(rows.begin(), rows.end(),
                                    [&](const Row& row) { return row.benchmark.name == name; });
    return found == rows.end() ? 0.0 : found->timing.median_us;
  };
  const double fast = median(ratio.fast);
  return fast > 0 ? median(ratio.slow) / fast : 0;
}

std::string ratio_text(const Ratio& ratio, double value) {
  return formatted("{:<42} {:>9.1f}x {:>10} {:>8g} {:>8g} {:>5}  {} over {}\n", ratio.name, value,
                   "", ratio.must, ratio.aim,
                   value >= ratio.aim    ? "aim"
                   : value >= ratio.must ? "must"
                                         : "no",
                   ratio.slow, ratio.fast);
}

/// The position of a benchmark's kind in the table.
std::ptrdiff_t place_of(const std::string& name) {
  constexpr std::string_view kKinds[] = {"empty kernel", "solve", "batch", "plan", "ipm"};
  const std::string_view kind = std::string_view(name).substr(0, name.find('/'));
  return std::find(std::begin(kKinds), std::end(kKinds), kind) - std::begin(kKinds);
}

std::vector<CudaBenchmark> matching(const std::string& filter, const std::string& trace) {
  std::vector<Case> cases = synthetic_cases();
  if (!trace.empty()) {
    for (Case& recorded : recorded_cases(trace)) cases.push_back(std::move(recorded));
  }
  std::vector<CudaBenchmark> benchmarks;
  for (const CudaSuite suite : cuda_suites()) suite(cases, benchmarks);
  const std::regex pattern = parse_filter(filter);
  std::erase_if(benchmarks, [&](const CudaBenchmark& benchmark) {
    return !std::regex_search(benchmark.name, pattern);
  });
  std::stable_sort(benchmarks.begin(), benchmarks.end(),
                   [](const CudaBenchmark& a, const CudaBenchmark& b) {
                     return place_of(a.name) < place_of(b.name);
                   });
  check_argument(!benchmarks.empty(), "--filter", "\"{}\" matches no benchmark", filter);
  return benchmarks;
}

}  // namespace

std::vector<CudaSuite>& cuda_suites() {
  static std::vector<CudaSuite> all;
  return all;
}

CudaTiming summarize(std::vector<double> times) {
  std::sort(times.begin(), times.end());
  const auto at = [&](double part) {
    return times[static_cast<std::size_t>(
        std::lround(part * static_cast<double>(times.size() - 1)))];
  };
  return {at(0.5), at(0.99), times.size(), ""};
}

void run_cuda_benchmarks(const std::string& filter, const std::string& trace,
                         const std::string& json) {
  const std::string& missing = cuda_support().missing;
  check_argument(missing.empty(), "--backend", "cuda is not available: {}", missing);
  const std::vector<CudaBenchmark> benchmarks = matching(filter, trace);
  const auto print = [&](const std::string& text) {
    if (json.empty()) io::write_file("-", text);
  };
  std::vector<Row> rows;
  nlohmann::ordered_json report = {{"device", cuda_support().devices[0].name}};
  print(header_text());
  for (const CudaBenchmark& benchmark : benchmarks) {
    rows.push_back({benchmark, benchmark.run()});
    report["benchmarks"].push_back(row_json(rows.back()));
    print(row_text(rows.back()));
  }
  for (const Ratio& ratio : kRatios) {
    const double value = value_of(ratio, rows);
    if (value == 0) continue;
    report["ratios"].push_back(
        {{"name", ratio.name}, {"ratio", value}, {"must", ratio.must}, {"aim", ratio.aim}});
    print(ratio_text(ratio, value));
  }
  if (!json.empty()) io::write_file(json, report.dump(1) + "\n");
}

}  // namespace lplb::bench
