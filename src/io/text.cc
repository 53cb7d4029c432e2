// SPDX-License-Identifier: MIT
#include "io/text.h"

#include <algorithm>
#include <cctype>

#include "core/format.h"

namespace lplb::io {
namespace {

/// The number of bytes of the UTF-8 character with which `text` begins; 0 if it begins with none.
/// Overlong forms and surrogates count as characters, because they harm no terminal.
std::size_t utf8_length(std::string_view text) {
  const auto first = static_cast<unsigned char>(text[0]);
  std::size_t length = 0;
  if (first < 0x80) {
    length = 1;
  } else if (first >= 0xC2 && first < 0xE0) {
    length = 2;
  } else if (first >= 0xE0 && first < 0xF0) {
    length = 3;
  } else if (first >= 0xF0 && first < 0xF5) {
    length = 4;
  }
  if (length > text.size()) return 0;
  for (std::size_t i = 1; i < length; ++i) {
    if ((static_cast<unsigned char>(text[i]) & 0xC0) != 0x80) return 0;
  }
  // U+0080 to U+009F are control characters, too.
  if (length == 2 && first == 0xC2 && static_cast<unsigned char>(text[1]) < 0xA0) return 0;
  return length;
}

}  // namespace

std::string printable(std::string_view text, std::size_t max_bytes) {
  std::string out;
  for (std::size_t i = 0; i < text.size();) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const std::size_t length = byte < 0x20 || byte == 0x7F ? 0 : utf8_length(text.substr(i));
    const std::string next =
        length == 0 ? formatted("\\x{:02x}", byte) : std::string(text.substr(i, length));
    if (out.size() + next.size() > max_bytes) return out + "...";
    out += next;
    i += length == 0 ? 1 : length;
  }
  return out;
}

std::string shell_word(const std::string& word) {
  const auto is_plain = [](unsigned char c) {
    return std::isalnum(c) != 0 ||
           std::string_view("-_./:=,+@%").find(static_cast<char>(c)) != std::string_view::npos;
  };
  if (!word.empty() && std::all_of(word.begin(), word.end(), is_plain)) return word;
  std::string quoted = word;
  for (std::size_t at = 0; (at = quoted.find('\'', at)) != std::string::npos; at += 4) {
    quoted.replace(at, 1, "'\\''");
  }
  return formatted("'{}'", quoted);
}

}  // namespace lplb::io
