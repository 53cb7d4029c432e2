// SPDX-License-Identifier: MIT
#pragma once

#include <string>
#include <string_view>

namespace lplb::io {

/// `text` as one printable line: control characters and bytes that are no UTF-8 become \xNN. More
/// than `max_bytes` bytes are cut, with "..." in their place.
std::string printable(std::string_view text, std::size_t max_bytes = 120);

}  // namespace lplb::io
