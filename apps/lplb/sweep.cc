// SPDX-License-Identifier: MIT
#include "sweep.h"

#include <algorithm>
#include <charconv>

#include "core/format.h"
#include "lplb/error.h"
#include "options.h"
#include "outputs.h"
#include "simulate/report/markup.h"

namespace lplb::app {
namespace {

constexpr std::size_t kMostValues = 100;

struct Setting {
  std::string name;
  std::int64_t least;
  void (*set)(SimulateOptions&, std::int64_t);
};

const std::vector<Setting>& settings() {
  static const std::vector<Setting> all = {
      {"redundants", 0, [](auto& o, auto value) { o.redundants = static_cast<Index>(value); }},
      {"num-replicas", 1, [](auto& o, auto value) { o.num_replicas = static_cast<Index>(value); }},
      {"num-ranks", 1, [](auto& o, auto value) { o.num_ranks = static_cast<Index>(value); }},
      {"window", 1, [](auto& o, auto value) { o.window = static_cast<Index>(value); }},
      {"rebalance-every", 1,
       [](auto& o, auto value) { o.rebalance_every = static_cast<Index>(value); }},
      {"batch-tokens", 0, [](auto& o, auto value) { o.batch_tokens = value; }}};
  return all;
}

const Setting& find_setting(const std::string& name) {
  std::vector<std::string> names;
  for (const Setting& setting : settings()) {
    if (setting.name == name) return setting;
    names.push_back(setting.name);
  }
  const std::string nearest = nearest_name(name, names);
  throw ArgumentError(
      "--sweep",
      formatted("\"{}\" cannot be swept, expected one of {}{}", name, fmt::join(names, ", "),
                nearest.empty() ? "" : "; did you mean " + nearest + "?"));
}

std::vector<std::int64_t> values_of(const Setting& setting, const std::string& text) {
  const auto number = [&](const std::string& word, std::int64_t least) {
    return parse_integer("--sweep", word, least, kMaxIndex);
  };
  std::vector<std::int64_t> values;
  if (text.find(':') == std::string::npos) {
    for (const std::string& word : split_list(text)) values.push_back(number(word, setting.least));
  } else {
    const std::vector<std::string> ends = CLI::detail::split(text, ':');
    if (ends.size() > 3) throw ArgumentError("--sweep", "expected LOW:HIGH or LOW:HIGH:STEP");
    const std::int64_t low = number(ends[0], setting.least);
    const std::int64_t high = number(ends[1], setting.least);
    const std::int64_t step = ends.size() == 3 ? number(ends[2], 1) : 1;
    for (std::int64_t value = low; value <= high && values.size() <= kMostValues; value += step) {
      values.push_back(value);
    }
  }
  std::ranges::sort(values);
  values.erase(std::unique(values.begin(), values.end()), values.end());
  if (values.empty() || values.size() > kMostValues) {
    throw ArgumentError("--sweep", formatted("\"{}\" has {} values, expected 1 to {}", text,
                                             values.empty() ? "no" : "too many", kMostValues));
  }
  return values;
}

/// The replay with all policies that fit. Adds what does not fit to `sweep.problems`.
SimulateReport replay(const SimulateOptions& options, std::int64_t value, report::Sweep& sweep) {
  try {
    return simulate(options);
  } catch (const ArgumentError&) {
    if (options.policies.size() == 1) throw;
  }
  // One policy does not fit, or all: each is tried by itself.
  SimulateOptions fitting = options;
  fitting.policies.clear();
  std::string last;
  for (const std::string& policy : options.policies) {
    SimulateOptions one = options;
    one.policies = {policy};
    try {
      simulate(one);
      fitting.policies.push_back(policy);
    } catch (const ArgumentError& error) {
      last = formatted("{} {}, {}: {}", sweep.setting, value, policy, error.what());
      sweep.problems.push_back(last);
    }
  }
  return fitting.policies.empty() ? SimulateReport{} : simulate(fitting);
}

}  // namespace

report::Sweep run_sweep(SimulateOptions options, const std::string& text) {
  const std::size_t equals = text.find('=');
  if (equals == std::string::npos) {
    throw ArgumentError("--sweep", formatted("\"{}\", expected NAME=LOW:HIGH or NAME=A,B", text));
  }
  const Setting& setting = find_setting(text.substr(0, equals));
  report::Sweep sweep;
  sweep.setting = setting.name;
  sweep.values = values_of(setting, text.substr(equals + 1));
  if (options.policies.empty()) options.policies = default_policies();
  sweep.policies = options.policies;
  for (const std::int64_t value : sweep.values) {
    setting.set(options, value);
    try {
      sweep.reports.push_back(replay(options, value, sweep));
    } catch (const ArgumentError& error) {
      sweep.problems.push_back(formatted("{} {}: {}", setting.name, value, error.what()));
      sweep.reports.emplace_back();
    }
  }
  const auto is_empty = [](const SimulateReport& report) { return report.policies.empty(); };
  if (std::ranges::all_of(sweep.reports, is_empty)) {
    throw ArgumentError("--sweep", "nothing can be replayed: " + sweep.problems.front());
  }
  return sweep;
}

std::string sweep_text(const report::Sweep& sweep) {
  std::vector<std::string> header = {"mean imbalance by " + sweep.setting};
  for (const std::int64_t value : sweep.values) header.push_back(formatted("{}", value));
  Table table(header);
  for (const std::string& policy : sweep.policies) {
    std::vector<std::string> row = {policy};
    for (std::size_t i = 0; i < sweep.values.size(); ++i) {
      const PolicyReport* found = report::find(sweep, i, policy);
      row.push_back(found == nullptr ? "-" : formatted("{:.3f}", found->imbalance.mean));
    }
    table.add(std::move(row));
  }
  std::string out = table.text();
  const std::string enough = report::enough_text(sweep);
  if (!enough.empty()) out += "\n" + enough + "\n";
  for (const std::string& problem : sweep.problems) out += problem + "\n";
  return out;
}

}  // namespace lplb::app
