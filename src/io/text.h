// SPDX-License-Identifier: MIT
#pragma once

#include <string>
#include <string_view>

namespace lplb::io {

/// `text` as one printable line. Control characters, and bytes that are not UTF-8, become \xNN. A
/// text of more than `max_bytes` bytes is cut and ends in "...".
std::string printable(std::string_view text, std::size_t max_bytes = 120);

/// `word` as a shell reads it back: in quotes if it has characters that a shell would interpret.
std::string shell_word(const std::string& word);

}  // namespace lplb::io
