// SPDX-License-Identifier: MIT
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "lplb/types.h"

// Each option of the command is added by one call. The parser, --help, docs/command.md and the
// completion scripts are all made from what the call says.
namespace lplb::app {

/// The groups of --help, in the order in which --help shows them.
inline constexpr const char* kInput = "Input";
inline constexpr const char* kSettings = "Settings";
inline constexpr const char* kOutput = "Output";
inline constexpr const char* kGeneral = "General";

/// How help shows a value. Completion offers file names for kFile, and a and b for "a|b".
inline constexpr const char* kFile = "FILE";
inline constexpr const char* kNumber = "N";

/// The largest values of options that count things.
inline constexpr std::int64_t kMaxIndex = std::numeric_limits<Index>::max();
inline constexpr std::int64_t kMaxCount = std::numeric_limits<std::int64_t>::max();

/// Reads `text` as a decimal integer in [low, high]. Otherwise throws ArgumentError, which names
/// `option`.
std::int64_t parse_integer(const std::string& option, const std::string& text, std::int64_t low,
                           std::int64_t high);

/// Adds an option with a value. It may be given only once. `take` gets the value.
CLI::Option* add_value(CLI::App& app, const std::string& name, const char* group, const char* type,
                       const std::string& help, std::function<void(const std::string&)> take);

/// Adds an option whose value is text. The initial `value` is the default that help shows.
CLI::Option* add_text(CLI::App& app, const std::string& name, const char* group, const char* type,
                      std::string& value, const std::string& help);

/// Adds an option whose value is an integer in [low, high]. The initial `value` is the default.
template <class T>
CLI::Option* add_integer(CLI::App& app, const std::string& name, const char* group, T& value,
                         std::int64_t low, std::int64_t high, const std::string& help) {
  return add_value(app, name, group, kNumber, help,
                   [&value, name, low, high](const std::string& text) {
                     value = static_cast<T>(parse_integer(name, text, low, high));
                   })
      ->default_str(std::to_string(value));
}

/// The same for an integer without a default.
template <class T>
CLI::Option* add_integer(CLI::App& app, const std::string& name, const char* group,
                         std::optional<T>& value, std::int64_t low, std::int64_t high,
                         const std::string& help) {
  return add_value(app, name, group, kNumber, help,
                   [&value, name, low, high](const std::string& text) {
                     value = static_cast<T>(parse_integer(name, text, low, high));
                   });
}

/// Adds an option whose value is a decimal number in [low, high]. The initial `value` is the
/// default.
CLI::Option* add_number(CLI::App& app, const std::string& name, const char* group, double& value,
                        double low, double high, const std::string& help);

/// Adds an option for the number of threads. The default is the number of cores.
CLI::Option* add_threads(CLI::App& app, const std::string& name, int& value,
                         const std::string& help);

/// Adds --solver, with the names of the solvers by tokens, or also of those by cost.
inline constexpr const char* kSolversByTokens = "auto|cut|flow|ipm";
inline constexpr const char* kAllSolvers = "auto|cut|flow|ipm|time|fast-time";
CLI::Option* add_solver(CLI::App& app, std::string& value, const char* names);

/// Adds --cost.
inline constexpr const char* kSplitByCost =
    "Cost model: make the largest cost of a rank small, such as its time, in place of its tokens. "
    "auto is then time, on the CPU; fast-time, which planners take, is for GPUs too. "
    "lplb-calibrate, of the Python package, measures a model";
CLI::Option* add_cost(CLI::App& app, std::string& path, const std::string& help = kSplitByCost);

/// Adds --json.
CLI::Option* add_json(CLI::App& app, std::string& path);

/// Adds a flag, which has no value.
CLI::Option* add_flag(CLI::App& app, const std::string& name, const char* group, bool& value,
                      const std::string& help);

/// Splits "a,b" into {"a", "b"}. Empty items, between commas or after the last one, are kept. "\,"
/// is a comma of an item.
std::vector<std::string> split_list(const std::string& text);

/// The one of `names` that a user who typed `text` most likely meant; empty if none is similar.
std::string nearest_name(const std::string& text, const std::vector<std::string>& names);

/// The commands of a program, and the options of a command, both without hidden ones.
std::vector<const CLI::App*> commands_of(const CLI::App& program);
std::vector<const CLI::Option*> options_of(const CLI::App& app);

}  // namespace lplb::app
