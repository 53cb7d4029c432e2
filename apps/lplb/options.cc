// SPDX-License-Identifier: MIT
#include "options.h"

#include <algorithm>
#include <charconv>
#include <numeric>
#include <thread>

#include "core/format.h"
#include "io/json.h"
#include "lplb/error.h"

namespace lplb::app {
namespace {

constexpr int kMaxThreads = 4096;

std::size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0]++;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({replaced, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row.back();
}

}  // namespace

std::int64_t parse_integer(const std::string& option, const std::string& text, std::int64_t low,
                           std::int64_t high) {
  std::int64_t value = 0;
  const char* end = text.data() + text.size();
  const auto [at, error] = std::from_chars(text.data(), end, value);
  if (error == std::errc() && at == end && value >= low && value <= high) return value;
  throw ArgumentError(
      option, high == std::numeric_limits<std::int64_t>::max()
                  ? formatted("{}, expected an integer >= {}", io::quote(text), low)
                  : formatted("{}, expected an integer from {} to {}", io::quote(text), low, high));
}

CLI::Option* add_value(CLI::App& app, const std::string& name, const char* group, const char* type,
                       const std::string& help, std::function<void(const std::string&)> take) {
  CLI::Option* option = app.add_option(
      name,
      [take = std::move(take)](const CLI::results_t& given) {
        take(given.at(0));
        return true;
      },
      help);
  return option->group(group)->type_name(type);
}

CLI::Option* add_text(CLI::App& app, const std::string& name, const char* group, const char* type,
                      std::string& value, const std::string& help) {
  return add_value(app, name, group, type, help,
                   [&value, name](const std::string& text) {
                     if (text.empty()) throw ArgumentError(name, "\"\", expected a value");
                     value = text;
                   })
      ->default_str(value);
}

CLI::Option* add_number(CLI::App& app, const std::string& name, const char* group, double& value,
                        double low, double high, const std::string& help) {
  return add_value(app, name, group, "X", help,
                   [&value, name, low, high](const std::string& text) {
                     const char* end = text.data() + text.size();
                     const auto [at, error] = std::from_chars(text.data(), end, value);
                     if (error == std::errc() && at == end && value >= low && value <= high) return;
                     throw ArgumentError(name, formatted("{}, expected a number from {} to {}",
                                                         io::quote(text), low, high));
                   })
      ->default_str(formatted("{}", value));
}

CLI::Option* add_threads(CLI::App& app, const std::string& name, int& value,
                         const std::string& help) {
  value = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  return add_integer(app, name, kSettings, value, 1, kMaxThreads, help)->default_str("all cores");
}

CLI::Option* add_solver(CLI::App& app, std::string& value, const char* names) {
  return add_text(app, "--solver", kSettings, names, value,
                  "Algorithm: cut (slacks of sets of ranks; up to 8 ranks), flow (sweeps and "
                  "waves; any number of ranks) or ipm (interior point; up to 256 ranks; near the "
                  "optimum, not always at it). auto takes cut if it fits, otherwise flow. A solver "
                  "that you name is never replaced by another");
}

CLI::Option* add_cost(CLI::App& app, std::string& path, const std::string& help) {
  return add_text(app, "--cost", kInput, kFile, path, help);
}

CLI::Option* add_json(CLI::App& app, std::string& path) {
  return add_text(
      app, "--json", kOutput, kFile, path,
      "Write the result as JSON to this file; - is standard output, and then no table is printed");
}

CLI::Option* add_flag(CLI::App& app, const std::string& name, const char* group, bool& value,
                      const std::string& help) {
  return app.add_flag(name, value, help)->group(group)->disable_flag_override();
}

std::vector<std::string> split_list(const std::string& text) {
  std::vector<std::string> items(1);
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == ',') {
      items.emplace_back();
    } else {
      if (text.compare(i, 2, "\\,") == 0) ++i;
      items.back() += text[i];
    }
  }
  return items;
}

std::string nearest_name(const std::string& text, const std::vector<std::string>& names) {
  // A beginning that only one name has is that name.
  const auto begins = [&](const std::string& name) { return name.starts_with(text); };
  if (text.size() > 1 && std::ranges::count_if(names, begins) == 1) {
    return *std::ranges::find_if(names, begins);
  }
  std::string nearest;
  const std::size_t letters = text.size() - std::min(text.find_first_not_of('-'), text.size());
  std::size_t least = letters / 3 + 1;  // up to a third of the letters may be wrong
  for (const std::string& name : names) {
    const std::size_t distance = edit_distance(text, name);
    if (distance > least || (distance == least && !nearest.empty())) continue;
    least = distance;
    nearest = name;
  }
  return nearest;
}

std::vector<const CLI::App*> commands_of(const CLI::App& program) {
  return program.get_subcommands([](const CLI::App* app) { return !app->get_group().empty(); });
}

std::vector<const CLI::Option*> options_of(const CLI::App& app) {
  return app.get_options([](const CLI::Option* option) { return !option->get_group().empty(); });
}

}  // namespace lplb::app
