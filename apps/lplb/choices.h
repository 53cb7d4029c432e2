// SPDX-License-Identifier: MIT
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace lplb::app {

/// Words that an option takes, for completion and for "did you mean": {"a", "b"} of the type "a|b",
/// the policies of a replay, the synthetic traces. Empty if no word is known.
std::vector<std::string> choices_of(const CLI::Option& option);

/// The value of `option` that a user who typed `text` most likely meant: one of its choices, or
/// `text` with another word before its first ":" or "+", as in "torus:2x4". Empty if none is
/// similar, or `text` is a choice.
std::string meant_value(const CLI::Option& option, const std::string& text);

}  // namespace lplb::app
