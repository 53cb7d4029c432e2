// SPDX-License-Identifier: MIT
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace lplb::app {

/// Words that an option takes, for completion and for "did you mean": {"a", "b"} of the type "a|b",
/// the policies of a replay, the synthetic traces. Empty if no word is known.
std::vector<std::string> choices_of(const CLI::Option& option);

}  // namespace lplb::app
