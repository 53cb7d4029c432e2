// SPDX-License-Identifier: MIT
#pragma once

#include <string>

namespace lplb::report {

/// The page up to its body: style sheet, title, and a policy that lets it load nothing. `title` is
/// not escaped yet.
std::string page_head(const std::string& title);

/// The first line of the body: `text` is HTML, and the button of the theme is beside it.
std::string page_top(const std::string& text);

/// From the footer to the end, with the script.
std::string page_end();

/// A card with a title. `title`, `note` and `body` are HTML. Empty if `body` is.
std::string page_section(const std::string& id, const std::string& title, const std::string& note,
                         const std::string& body);

}  // namespace lplb::report
