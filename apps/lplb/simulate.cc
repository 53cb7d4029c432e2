// SPDX-License-Identifier: MIT
#include "lplb/simulate.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <limits>
#include <memory>

#include "backend.h"
#include "commands.h"
#include "core/format.h"
#include "options.h"
#include "outputs.h"
#include "simulate/report/answer.h"
#include "trace_options.h"

namespace lplb::app {
namespace {

constexpr std::int64_t kMaxIndex = std::numeric_limits<Index>::max();
constexpr std::int64_t kMaxCount = std::numeric_limits<std::int64_t>::max();

struct Options {
  SimulateOptions simulate;
  std::string solver = "auto";
  std::string backend = "cpu";
  std::string json;
  std::string html;
};

/// A progress bar on standard error, if that is a terminal. It is erased when the work is done.
class ProgressBar {
 public:
  ProgressBar() : shown_(::isatty(STDERR_FILENO) != 0) {}
  ~ProgressBar() {
    if (drawn_) std::fputs("\r\033[K", stderr);
  }
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  void show(std::int64_t done, std::int64_t all) {
    const auto now = std::chrono::steady_clock::now();
    if (!shown_ || now - last_ < std::chrono::milliseconds(100)) return;
    last_ = now;
    drawn_ = true;
    std::string line = formatted("\r\033[K{} batches", done);
    if (all > 0) {
      constexpr int kWidth = 40;
      const auto filled = static_cast<int>(std::min(done, all) * kWidth / all);
      line = formatted("\r\033[K[{:#<{}}{:.<{}}] {}/{} batches", "", filled, "", kWidth - filled,
                       done, all);
    }
    std::fputs(line.c_str(), stderr);
    std::fflush(stderr);
  }

 private:
  bool shown_;
  bool drawn_ = false;
  std::chrono::steady_clock::time_point last_;
};

std::string table_of(const SimulateReport& report) {
  const auto number = [](double value) { return formatted("{:.3f}", value); };
  Table table({"policy", "mean", "p50", "p95", "p99", "max", "gap", "moved", "local", "us/solve"});
  for (const PolicyReport& policy : report.policies) {
    const Distribution& d = policy.imbalance;
    table.add({policy.name, number(d.mean), number(d.p50), number(d.p95), number(d.p99),
               number(d.max), formatted("{:.2f}%", 100 * policy.gap_mean),
               formatted("{:.1f}", policy.moved_experts_mean),
               policy.local_share ? formatted("{:.1f}%", 100 * *policy.local_share) : "-",
               policy.solves > 0 ? formatted("{:.2f}", policy.solve_us.p50) : "-"});
  }
  return table.text();
}

std::string title_of(const SimulateReport& report) {
  const SimulateOptions& o = report.settings;
  return formatted(
      "{}{}: {} batches, {} layers, {} experts; {} ranks, {} redundants a rank\n"
      "imbalance (max / mean rank load), gap to the proven bound, experts moved per rebalance "
      "and layer, tokens kept on their rank\n\n",
      report.trace.name, report.trace.synthetic ? " (synthetic, not recorded)" : "",
      report.num_batches, report.trace.num_layers, report.trace.num_logical_experts, o.num_ranks,
      o.redundants);
}

/// The sentence that the page begins with, and the figures that it is based on.
std::string answer_of(const SimulateReport& report) {
  const report::Answer answer = report::find_answer(report);
  if (answer.best == nullptr || answer.base == nullptr) return "";
  const std::string base = answer.base->name == "eplb"   ? "EPLB"
                           : answer.base->name == "none" ? "no replicas"
                                                         : answer.base->name;
  const std::string figures =
      formatted("mean imbalance {:.3f} with {}, {:.3f} with {}", answer.base->imbalance.mean,
                answer.base->name, answer.best->imbalance.mean, answer.best->name);
  if (answer.cut <= 0) {
    return formatted("\nLPLB does not help here against {}: {}.\n", base, figures);
  }
  return formatted("\nLPLB cuts the slowest rank's load by {:.1f} % against {}: {}.\n",
                   100 * answer.cut, base, figures);
}

void run(Options& options, const CLI::App& command, const std::string& command_line) {
  const Outputs outputs({{"--json", options.json}, {"--html", options.html}},
                        {{"--trace", options.simulate.trace}});
  options.simulate.solver = parse_solver(options.solver);
  const BackendChoice backend(options.backend);
  options.simulate.backend = backend.backend();
  check_synthetic(command, options.simulate.trace);
  SimulateReport report;
  {
    ProgressBar bar;
    options.simulate.progress = [&bar](std::int64_t done, std::int64_t all) {
      bar.show(done, all);
    };
    report = simulate(options.simulate);
  }
  outputs.write({options.json.empty() ? "" : report_json(report),
                 options.html.empty() ? "" : report_html(report, command_line)});
  if (!outputs.take_standard_output()) {
    print(title_of(report) + table_of(report) + answer_of(report));
  }
  backend.tell(report.num_solves, report.num_cuda_solves);
}

}  // namespace

void add_simulate(CLI::App& program, std::string command_line) {
  CLI::App* command = program.add_subcommand(
      "simulate", "Replay recorded loads through policies and report the imbalance of each");
  auto options = std::make_shared<Options>();
  SimulateOptions& simulate = options->simulate;
  add_text(*command, "--trace", kInput, kFile, simulate.trace, trace_help())->required();
  add_integer(*command, "--num-ranks", kSettings, simulate.num_ranks, 1, kMaxRanks,
              "Number of ranks");
  add_integer(*command, "--num-nodes", kSettings, simulate.num_nodes, 1, kMaxRanks,
              "Number of nodes");
  add_integer(*command, "--num-groups", kSettings, simulate.num_groups, 1, kMaxPhysical,
              "Expert groups of the router. If the number of nodes divides their number, EPLB is "
              "hierarchical");
  add_integer(*command, "--redundants", kSettings, simulate.redundants, 0, kMaxPhysical,
              "Redundant slots of each rank");
  add_value(*command, "--policies", kSettings, "NAME,...",
            "What to compare: none, eplb, eplb+lplb, eplb+stale, TOPOLOGY+even, TOPOLOGY+lplb, "
            "TOPOLOGY+stale, where TOPOLOGY is cube, hypercube, torus:MxN, ring:N or r2o:FILE",
            [&simulate](const std::string& text) { simulate.policies = split_list(text); })
      ->default_str(formatted("{}", fmt::join(simulate.policies, ",")));
  add_integer(*command, "--batch-tokens", kSettings, simulate.batch_tokens, 0, kMaxCount,
              "Tokens of a batch: steps are merged and cut to this size; 0: batches are the steps "
              "as recorded");
  add_integer(*command, "--window", kSettings, simulate.window, 1, kMaxIndex,
              "How many past batches a placement is made from");
  add_integer(*command, "--rebalance-every", kSettings, simulate.rebalance_every, 1, kMaxIndex,
              "Choose a new placement every N batches");
  add_solver(*command, options->solver);
  add_backend(*command, options->backend);
  add_threads(*command, "--jobs", simulate.jobs,
              "Number of threads; figures other than times do not depend on it");
  add_synthetic(*command, simulate.synthetic);
  add_json(*command, options->json);
  add_text(*command, "--html", kOutput, kFile, options->html,
           "Write a report as one HTML page to this file; - is standard output");
  command->footer(
      "Example: lplb simulate --trace data/traces/deepseek-v2-lite.load.jsonl --num-ranks 8 "
      "--redundants 2\n"
      "         --policies none,eplb,eplb+lplb,cube+lplb --batch-tokens 1024 --html report.html");
  command->callback(
      [options, command, line = std::move(command_line)] { run(*options, *command, line); });
}

}  // namespace lplb::app
