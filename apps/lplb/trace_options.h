// SPDX-License-Identifier: MIT
#pragma once

#include "lplb/trace.h"
#include "options.h"

namespace lplb::app {

/// What the help of --trace says.
std::string trace_help();

/// Adds the options that shape a trace synthetic:NAME.
void add_synthetic(CLI::App& command, SyntheticOptions& synthetic);

/// Throws ArgumentError if such an option is given and `trace` is not synthetic.
void check_synthetic(const CLI::App& command, const std::string& trace);

}  // namespace lplb::app
