// SPDX-License-Identifier: MIT
#pragma once

#include <CLI/CLI.hpp>
#include <string>

// Each command has a file of its own. Each call adds the command's options and the function that
// runs it after they are parsed.
namespace lplb::app {

/// Reports say that they were made by `command_line`.
void add_simulate(CLI::App& program, std::string command_line);
void add_report(CLI::App& program, std::string command_line);
void add_place(CLI::App& program);
void add_solve(CLI::App& program);
void add_replicate(CLI::App& program);
void add_plan(CLI::App& program);
void add_bench(CLI::App& program);
void add_info(CLI::App& program);
void add_completion(CLI::App& program);

}  // namespace lplb::app
