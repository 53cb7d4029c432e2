// SPDX-License-Identifier: MIT

#include <algorithm>

#include "core/format.h"
#include "io/input.h"
#include "io/json.h"

namespace lplb::io {
namespace {

constexpr std::size_t kChunk = std::size_t{1} << 16;

}  // namespace

std::string read_file(const std::string& path, std::size_t max_bytes) {
  InputFile file(path);
  if (file.size() > 0 && static_cast<std::uintmax_t>(file.size()) > max_bytes) {
    throw FileError(file.name(), "",
                    formatted("has {} bytes, expected at most {}", file.size(), max_bytes));
  }
  std::string content;
  std::size_t size = 0;
  for (;;) {
    if (content.size() - size < kChunk) content.resize(std::max(2 * size, size + kChunk));
    const std::size_t got = file.read(content.data() + size, content.size() - size);
    if (got == 0) break;
    size += got;
    if (size > max_bytes) {
      throw FileError(file.name(), "", formatted("has more than {} bytes", max_bytes));
    }
  }
  content.resize(size);
  return content;
}

}  // namespace lplb::io
