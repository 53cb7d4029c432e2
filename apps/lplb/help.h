// SPDX-License-Identifier: MIT
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace lplb::app {

/// The text that --help prints, for the program or for one of its commands.
std::string help_text(const CLI::App& app);

/// The text of docs/command.md, from the same options.
std::string help_markdown(const CLI::App& program);

/// The man page lplb(1), in roff, from the same options.
std::string help_man(const CLI::App& program, const std::string& version);

/// The completion script for "bash", "zsh" or "fish", from the same options. Throws ArgumentError
/// for any other shell.
std::string completion_script(const CLI::App& program, const std::string& shell);

}  // namespace lplb::app
