// SPDX-License-Identifier: MIT
#pragma once

#include <CLI/CLI.hpp>
#include <optional>

#include "lplb/controller.h"

namespace lplb::app {

/// Adds --controller KEY=VALUE,...|default. Throws ArgumentError for an unknown key or a bad value.
void add_controller(CLI::App& app, std::optional<ControllerOptions>& options);

}  // namespace lplb::app
