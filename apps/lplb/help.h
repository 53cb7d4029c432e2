// SPDX-License-Identifier: MIT
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace lplb::app {

/// What --help prints for the program or one of its commands.
std::string help_text(const CLI::App& app);

/// docs/command.md, from the same options.
std::string help_markdown(const CLI::App& program);

/// A completion script for "bash", "zsh" or "fish", from the same options. Throws ArgumentError for
/// another shell.
std::string completion_script(const CLI::App& program, const std::string& shell);

}  // namespace lplb::app
