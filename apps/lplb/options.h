// SPDX-License-Identifier: MIT
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

// Options of the command, each added by one call. What the call says is the only record of the
// option: the parser, --help, docs/command.md and the completion scripts are made from it.
namespace lplb::app {

/// Groups of --help, in the order in which they are shown.
inline constexpr const char* kInput = "Input";
inline constexpr const char* kSettings = "Settings";
inline constexpr const char* kOutput = "Output";
inline constexpr const char* kGeneral = "General";

/// How a value is shown: kFile is completed by file names, "a|b" by a and b.
inline constexpr const char* kFile = "FILE";
inline constexpr const char* kNumber = "N";

/// `text` as a decimal integer in [low, high], else ArgumentError naming `option`.
std::int64_t parse_integer(const std::string& option, const std::string& text, std::int64_t low,
                           std::int64_t high);

/// An option with a value, which may be given once. `take` gets the value.
CLI::Option* add_value(CLI::App& app, const std::string& name, const char* group, const char* type,
                       const std::string& help, std::function<void(const std::string&)> take);

/// A text; what `value` holds is the default that help shows.
CLI::Option* add_text(CLI::App& app, const std::string& name, const char* group, const char* type,
                      std::string& value, const std::string& help);

/// An integer in [low, high]; what `value` holds is the default.
template <class T>
CLI::Option* add_integer(CLI::App& app, const std::string& name, const char* group, T& value,
                         std::int64_t low, std::int64_t high, const std::string& help) {
  return add_value(app, name, group, kNumber, help,
                   [&value, name, low, high](const std::string& text) {
                     value = static_cast<T>(parse_integer(name, text, low, high));
                   })
      ->default_str(std::to_string(value));
}

/// The same where absent is a value of its own.
template <class T>
CLI::Option* add_integer(CLI::App& app, const std::string& name, const char* group,
                         std::optional<T>& value, std::int64_t low, std::int64_t high,
                         const std::string& help) {
  return add_value(app, name, group, kNumber, help,
                   [&value, name, low, high](const std::string& text) {
                     value = static_cast<T>(parse_integer(name, text, low, high));
                   });
}

/// Threads: every core unless told otherwise.
CLI::Option* add_threads(CLI::App& app, const std::string& name, int& value,
                         const std::string& help);

/// "auto|cut|flow|ipm".
CLI::Option* add_solver(CLI::App& app, std::string& value);

/// --json.
CLI::Option* add_json(CLI::App& app, std::string& path);

/// --flag.
CLI::Option* add_flag(CLI::App& app, const std::string& name, const char* group, bool& value,
                      const std::string& help);

/// The one of `names` that a user who typed `text` most likely meant; empty where none is near.
std::string nearest_name(const std::string& text, const std::vector<std::string>& names);

/// The commands of `program`, and the long options of a command, hidden ones left out.
std::vector<const CLI::App*> commands_of(const CLI::App& program);
std::vector<const CLI::Option*> options_of(const CLI::App& app);

}  // namespace lplb::app
