// SPDX-License-Identifier: MIT
#pragma once

#include <string>

namespace lplb::report {

/// The page's style sheet: light and dark, phone and paper.
std::string style();

/// The page's script. It adds sorting, readouts and a theme switch. The page works without it.
std::string script();

}  // namespace lplb::report
