// SPDX-License-Identifier: MIT
#pragma once

#include <CLI/CLI.hpp>
#include <string>

// One file a command. Each call adds the command's options and what runs it once they are parsed.
namespace lplb::app {

/// `command_line` is what reports say that they were made by.
void add_simulate(CLI::App& program, std::string command_line);
void add_place(CLI::App& program);
void add_solve(CLI::App& program);
void add_plan(CLI::App& program);
void add_bench(CLI::App& program);
void add_info(CLI::App& program);
void add_completion(CLI::App& program);

}  // namespace lplb::app
