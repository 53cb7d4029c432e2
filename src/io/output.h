// SPDX-License-Identifier: MIT
#pragma once

#include <string>
#include <string_view>

namespace lplb::io {

/// Writes `path` whole or not at all: beside it, flushed to disk, then renamed over it. "-" is
/// standard output. Throws FileError (no such folder, no permission, full disk, closed pipe).
void write_file(const std::string& path, std::string_view content);

}  // namespace lplb::io
