// SPDX-License-Identifier: MIT
#include <memory>

#include "commands.h"
#include "core/format.h"
#include "options.h"
#include "outputs.h"
#include "simulate/report/compare.h"
#include "simulate/report/markup.h"

namespace lplb::app {
namespace {

struct ReportArguments {
  std::string a;
  std::string b;
  std::string html;
};

std::string text_of(const report::Pair& pair) {
  Table figures({"policy", "mean A", "mean B", "change", "p99 A", "p99 B", "moved A", "moved B"});
  for (const report::Both& both : report::policies_of(pair)) {
    const auto value = [&](std::size_t i, double (*of)(const PolicyReport&), int decimals) {
      const PolicyReport* policy = both.side[i];
      return policy == nullptr ? "-" : formatted("{:.{}f}", of(*policy), decimals);
    };
    const auto mean = [](const PolicyReport& p) { return p.imbalance.mean; };
    const auto p99 = [](const PolicyReport& p) { return p.imbalance.p99; };
    const auto moved = [](const PolicyReport& p) { return p.moved_experts_mean; };
    const std::string change = report::plain(report::change_text(both));
    figures.add({both.name, value(0, mean, 3), value(1, mean, 3), change == "–" ? "-" : change,
                 value(0, p99, 3), value(1, p99, 3), value(0, moved, 1), value(1, moved, 1)});
  }
  std::string out =
      formatted("A: {}\nB: {}\nimbalance, experts moved per rebalance and layer\n\n{}",
                pair.path[0], pair.path[1], figures.text());
  const auto differences = report::differences(pair);
  if (differences.empty()) return out + "\nTrace and settings are the same.\n";
  Table facts({"differs", "A", "B"});
  for (const report::Difference& d : differences) {
    facts.add(
        {d.key, d.value[0].empty() ? "-" : d.value[0], d.value[1].empty() ? "-" : d.value[1]});
  }
  return out + "\n" + facts.text();
}

void run(const ReportArguments& options, const std::string& command_line) {
  const Outputs outputs({{"--html", options.html}}, {{"A", options.a}, {"B", options.b}});
  if (options.a == "-" && options.b == "-") {
    throw ArgumentError("B", "- is standard input, which A takes already");
  }
  const report::Pair pair{{report::read_report(options.a), report::read_report(options.b)},
                          {options.a, options.b}};
  outputs.write({options.html.empty() ? "" : report::compare_html(pair, command_line)});
  if (!outputs.take_standard_output()) print(text_of(pair));
}

}  // namespace

void add_report(CLI::App& program, std::string command_line) {
  CLI::App* command =
      program.add_subcommand("report", "Compare two reports of simulate --json side by side");
  auto options = std::make_shared<ReportArguments>();
  for (const auto& [name, path] : {std::pair{"A", &options->a}, std::pair{"B", &options->b}}) {
    command->add_option(name, *path, "A report that simulate --json wrote; - is standard input")
        ->required()
        ->type_name(kFile)
        ->group(kInput);
  }
  add_text(*command, "--html", kOutput, kFile, options->html,
           "Write the comparison as one HTML page to this file; - is standard output");
  command->footer("Example: lplb report before.json after.json --html compare.html");
  command->callback([options, line = std::move(command_line)] { run(*options, line); });
}

}  // namespace lplb::app
