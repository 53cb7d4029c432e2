// SPDX-License-Identifier: MIT
#include "lplb/simulate.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <memory>
#include <optional>

#include "backend.h"
#include "commands.h"
#include "controller_option.h"
#include "core/format.h"
#include "io/text.h"
#include "lplb/replicate.h"
#include "options.h"
#include "outputs.h"
#include "simulate/report/answer.h"
#include "simulate/report/markup.h"
#include "split_json.h"
#include "sweep.h"
#include "trace_options.h"

namespace lplb::app {
namespace {

constexpr double kMaxSize = 1e9;  // of a bandwidth, or of a time

struct SimulateArguments {
  SimulateOptions simulate;
  std::string solver = "auto";
  std::string backend = "cpu";
  std::optional<Index> redundants;
  std::string json;
  std::string html;
  std::string placement;
  std::string policy;  // whose placement is written
  std::string sweep;
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
  std::vector<std::string> head = {"policy", "mean", "p50", "p95", "p99", "max", "gap"};
  const std::optional<CostModel>& cost = report.settings.cost;
  if (cost) {
    const std::string unit = io::printable(cost->unit());
    head.insert(head.end(), {unit + " mean", unit + " p99", unit + " gap"});
  }
  const bool copies = report::makes_copies(report);
  const bool bytes = copies && report.settings.expert_bytes > 0;
  if (report.settings.controller) head.emplace_back("charged");
  head.emplace_back("moved");
  if (copies) head.emplace_back("copies");
  if (bytes) head.emplace_back("copied");
  head.insert(head.end(), {"local", "us/solve"});
  Table table(head);
  for (const PolicyReport& policy : report.policies) {
    const Distribution& d = policy.imbalance;
    std::vector<std::string> row = {policy.name,
                                    number(d.mean),
                                    number(d.p50),
                                    number(d.p95),
                                    number(d.p99),
                                    number(d.max),
                                    formatted("{:.2f}%", 100 * policy.gap_mean)};
    if (policy.cost) {
      row.push_back(formatted("{:.1f}", policy.cost->max.mean));
      row.push_back(formatted("{:.1f}", policy.cost->max.p99));
      row.push_back(std::isfinite(policy.cost->gap_mean)
                        ? formatted("{:.2f}%", 100 * policy.cost->gap_mean)
                        : "-");
    }
    if (policy.charged) {
      row.push_back(cost ? formatted("{:.1f}", *policy.charged) : number(*policy.charged));
    }
    row.push_back(formatted("{:.1f}", policy.moved_experts_mean));
    if (copies) row.push_back(policy.copies ? formatted("{:.1f}", policy.copies->mean) : "-");
    if (bytes) row.push_back(policy.copies ? report::bytes_text(policy.copies->mean_bytes) : "-");
    row.push_back(policy.local_share ? formatted("{:.1f}%", 100 * *policy.local_share) : "-");
    row.push_back(policy.solves > 0 ? formatted("{:.2f}", policy.solve_us.p50) : "-");
    table.add(row);
  }
  return table.text();
}

std::string title_of(const SimulateReport& report) {
  const std::string slots = report::slots_text(report);
  return formatted(
      "{}{}: {}, {}, {}; {}{}\n"
      "imbalance (max / mean rank load), gap to the proven bound, {}{}experts moved per rebalance "
      "and layer, {}tokens kept on their rank\n\n",
      report.trace.name, report.trace.synthetic ? " (synthetic, not recorded)" : "",
      report::counted(report.num_batches, "batch"),
      report::counted(report.trace.num_layers, "layer"),
      report::counted(report.trace.num_logical_experts, "expert"),
      report::counted(report.settings.num_ranks, "rank"), slots.empty() ? "" : ", " + slots,
      report.settings.cost ? "cost of the slowest rank of a layer and its gap, " : "",
      report.settings.controller ? "the mean with its moves charged, " : "",
      report::makes_copies(report) ? "copies a batch and layer, " : "");
}

/// The sentences with which the page begins: the answer, what it costs, and what to know about the
/// figures.
std::string answer_of(const SimulateReport& report) {
  const report::Answer answer = report::find_answer(report);
  std::string text;
  const auto add = [&text](const std::string& line) { text += "\n" + report::plain(line); };
  if (answer.best != nullptr && answer.base != nullptr) {
    add(report::verdict(report, answer));
    std::string means;
    const PolicyReport* last = nullptr;
    const auto add_mean = [&](const PolicyReport* policy) {
      if (policy == last) return;
      means += formatted("{}{} {}", last == nullptr ? "" : ", ", policy->name,
                         report::mean_text(report, *policy));
      last = policy;
    };
    add_mean(answer.base);
    for (const report::Effect& effect : answer.effects) add_mean(effect.to);
    add_mean(answer.best);
    const char* const what = report.settings.cost ? "Mean cost" : "Mean imbalance";
    add(formatted("{}: {}.", what, means));
    add(report::price(report, *answer.best));
  }
  for (const std::string& note : report::notes(report)) add(note);
  return text.empty() ? "" : text + "\n";
}

/// Refuses --policy without --write-placement, the reverse, and a policy that is not replayed.
void check_placement_options(const SimulateArguments& options) {
  if (options.placement.empty() != options.policy.empty()) {
    throw ArgumentError(
        options.policy.empty() ? "--policy" : "--write-placement",
        formatted("is required by {}", options.policy.empty() ? "--write-placement" : "--policy"));
  }
  const std::vector<std::string> known =
      options.simulate.policies.empty() ? default_policies() : options.simulate.policies;
  if (options.policy.empty() || std::ranges::find(known, options.policy) != known.end()) return;
  throw ArgumentError("--policy",
                      formatted("\"{}\" is not replayed, expected one of --policies: {}",
                                options.policy, fmt::join(known, ", ")));
}

/// Replays once for each value of --sweep.
void sweep(const SimulateArguments& options, const Outputs& outputs,
           const std::string& command_line) {
  if (!options.placement.empty()) {
    throw ArgumentError("--write-placement", "is for one replay, expected no --sweep");
  }
  const report::Sweep sweep = run_sweep(options.simulate, options.sweep);
  outputs.write({options.json.empty() ? "" : report::sweep_json(sweep),
                 options.html.empty() ? "" : report::sweep_html(sweep, command_line), ""});
  if (!outputs.take_standard_output()) print(sweep_text(sweep));
}

void run(SimulateArguments& options, const CLI::App& command, const std::string& command_line) {
  std::vector<Outputs::Target> inputs = {{"--trace", options.simulate.trace},
                                         {"--cost", options.simulate.cost_file}};
  for (const std::string& policy : options.simulate.policies) {
    inputs.push_back({"--policies", file_of_policy(policy)});
  }
  const Outputs outputs({{"--json", options.json},
                         {"--html", options.html},
                         {"--write-placement", options.placement}},
                        inputs);
  check_placement_options(options);
  if (options.redundants) {
    if (options.simulate.num_replicas > 0) {
      throw ArgumentError("--redundants", "says the same as --num-replicas, expected one of them");
    }
    options.simulate.redundants = *options.redundants;
  }
  options.simulate.solver = parse_solver(options.solver);
  const BackendChoice backend(options.backend);
  options.simulate.backend = backend.backend();
  options.simulate.cost = read_cost(options.simulate.cost_file, options.simulate.num_ranks);
  check_synthetic(command, options.simulate.trace);
  if (!options.sweep.empty()) {
    return sweep(options, outputs, command_line);
  }
  SimulateReport report;
  {
    ProgressBar bar;
    options.simulate.progress = [&bar](std::int64_t done, std::int64_t all) {
      bar.show(done, all);
    };
    report = simulate(options.simulate);
  }
  outputs.write({options.json.empty() ? "" : report_json(report),
                 options.html.empty() ? "" : report_html(report, command_line),
                 options.placement.empty() ? "" : placement_json(report, options.policy)});
  if (!outputs.take_standard_output()) {
    print(title_of(report) + table_of(report) + answer_of(report));
  }
  backend.tell(report.num_solves, report.num_cuda_solves);
}

}  // namespace

void add_simulate(CLI::App& program, std::string command_line) {
  CLI::App* command = program.add_subcommand(
      "simulate", "Replay recorded loads through policies and report the imbalance of each");
  auto options = std::make_shared<SimulateArguments>();
  SimulateOptions& simulate = options->simulate;
  add_text(*command, "--trace", kInput, kFile, simulate.trace, trace_help())->required();
  add_cost(*command, simulate.cost_file,
           "Cost model: adds what the slowest rank costs, such as its time, and the split +time");
  add_integer(*command, "--num-ranks", kSettings, simulate.num_ranks, 1, kMaxRanks,
              "Number of ranks");
  add_integer(*command, "--num-nodes", kSettings, simulate.num_nodes, 1, kMaxRanks,
              "Number of nodes");
  add_integer(*command, "--num-groups", kSettings, simulate.num_groups, 1, kMaxPhysical,
              "Expert groups of the router. If the number of nodes divides their number, EPLB is "
              "hierarchical");
  add_integer(*command, "--redundants", kSettings, options->redundants, 0, kMaxPhysical,
              "Redundant slots of each rank. The ranks must divide the experts")
      ->default_str(std::to_string(simulate.redundants));
  add_value(*command, "--num-replicas", kSettings, kNumber,
            "All slots of a layer, in place of --redundants: a multiple of the ranks, which need "
            "not divide the experts",
            [&simulate](const std::string& text) {
              simulate.num_replicas =
                  static_cast<Index>(parse_integer("--num-replicas", text, 1, kMaxPhysical));
            });
  add_value(
      *command, "--policies", kSettings, "NAME,...",
      "What to compare: none, eplb, eplb+lplb, eplb+stale; the same with eplb-spread, which has "
      "no expert twice on a rank, and with eplb-keep, which moves few experts; homes+even, "
      "homes+lplb, homes+stale, whose replicas a search with the exact split chooses; the same "
      "with moving-homes, where homes may move; controller+even, controller+lplb and with "
      "--cost controller+time, which rebalance when it pays; TOPOLOGY+even, TOPOLOGY+lplb, "
      "TOPOLOGY+stale, where TOPOLOGY is cube, hypercube, torus:MxN, ring:N or r2o:FILE; "
      "file:PATH+even, file:PATH+lplb, file:PATH+stale, which replay a placement file. With "
      "--cost also none, eplb, eplb-spread, eplb-keep, homes, moving-homes, TOPOLOGY and "
      "file:PATH with +time, which split by cost. none, and each with +lplb in place of that, "
      "also with +dynamic:S: copies of experts for each batch in S slots of a rank; with --cost "
      "also +dynamic:S:time. \\, is a comma of a file's name. If the ranks do not divide the "
      "experts, none is left out of the default",
      [&simulate](const std::string& text) { simulate.policies = split_list(text); })
      ->default_str(formatted("{}", fmt::join(default_policies(), ",")));
  add_integer(*command, "--batch-tokens", kSettings, simulate.batch_tokens, 0, kMaxCount,
              "Tokens of a batch: steps are merged and cut to this size; 0: batches are the steps "
              "as recorded");
  add_integer(*command, "--skip-steps", kSettings, simulate.skip_steps, 0, kMaxCount,
              "Leave out the first N steps of the trace");
  add_flag(*command, "--drop-repeats", kSettings, simulate.drop_repeats,
           "Leave out tokens that choose the very same experts in all layers as more than a tenth "
           "of all tokens: padding and warm-up. The trace must be a STEM.topk.npy");
  add_integer(
      *command, "--warm-up", kSettings, simulate.warm_up, 0, kMaxCount,
      "Leave the first N batches out of all figures; they are replayed and fill the window");
  add_integer(*command, "--window", kSettings, simulate.window, 1, kMaxIndex,
              "How many past batches a placement is made from");
  add_integer(*command, "--rebalance-every", kSettings, simulate.rebalance_every, 1, kMaxIndex,
              "Choose a new placement every N batches");
  add_controller(*command, simulate.controller);
  add_text(*command, "--sweep", kSettings, "NAME=LOW:HIGH", options->sweep,
           "Replay once for each value of a setting, LOW:HIGH:STEP or A,B,C, and show the mean "
           "imbalance by it: how many redundants are enough? NAME is redundants, num-replicas, "
           "num-ranks, window, rebalance-every or batch-tokens");
  add_solver(*command, options->solver, kSolversByTokens);
  add_backend(*command, options->backend);
  add_threads(*command, "--threads", simulate.num_threads,
              "Number of threads; figures other than times do not depend on it");
  add_value(*command, "--expert-bytes", kSettings, kNumber,
            "Bytes of one expert's weights in one layer, to say how much a rebalance moves, and "
            "copies for a batch",
            [&simulate](const std::string& text) {
              simulate.expert_bytes = parse_integer("--expert-bytes", text, 1, kMaxCount);
            });
  add_number(*command, "--copy-target", kSettings, simulate.copy_target, 1, kMaxCopyTarget,
             "With +dynamic:S: make copies until no rank has more than this multiple of the mean "
             "load");
  add_integer(*command, "--copy-min-tokens", kSettings, simulate.copy_min_tokens, 1, kMaxCount,
              "What a copy carries at least");
  add_integer(*command, "--copy-domains", kSettings, simulate.copy_domains, 1, kMaxRanks,
              "Number of domains of consecutive ranks, which copies do not leave");
  add_number(*command, "--copy-gigabytes-per-s", kSettings, simulate.copy_gigabytes_per_s, 0,
             kMaxSize,
             "What a rank sends and receives, each way, in 1e9 bytes a second: costs then include "
             "the time of copying. Needs --expert-bytes and a --cost in us; 0: not known");
  add_number(*command, "--copy-hidden-us", kSettings, simulate.copy_hidden_us, 0, kMaxSize,
             "How many microseconds the copies of a layer travel behind other work");
  add_synthetic(*command, simulate.synthetic);
  add_json(*command, options->json);
  add_text(*command, "--html", kOutput, kFile, options->html,
           "Write a report as one HTML page to this file; - is standard output");
  add_text(*command, "--write-placement", kOutput, kFile, options->placement,
           "Write the placement that --policy would use after the last batch to this file; - is "
           "standard output, and then no table is printed");
  add_text(*command, "--policy", kOutput, "NAME", options->policy,
           "With --write-placement: one of --policies");
  command->footer(
      "Example: lplb simulate --trace data/traces/deepseek-v2-lite.load.jsonl --num-ranks 8 "
      "--redundants 2\n"
      "         --policies none,eplb,eplb+lplb,cube+lplb --batch-tokens 1024 --html report.html");
  command->callback(
      [options, command, line = std::move(command_line)] { run(*options, *command, line); });
}

}  // namespace lplb::app
