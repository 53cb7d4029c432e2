// SPDX-License-Identifier: MIT
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "lplb/error.h"

// What the fuzz targets share. libFuzzer calls LLVMFuzzerTestOneInput() with any bytes. A reader
// may return, or throw an lplb::Error. Everything else is a crash: other exceptions, reports of a
// sanitizer, and inputs that pass libFuzzer's limits on time or memory.
namespace lplb::fuzz {

/// A file that exists only in memory, but has a path.
class MemoryFile {
 public:
  explicit MemoryFile(std::string_view bytes) : fd_(::memfd_create("fuzz", 0)) {
    if (fd_ < 0) std::abort();
    while (!bytes.empty()) {
      const ssize_t written = ::write(fd_, bytes.data(), bytes.size());
      if (written <= 0) std::abort();
      bytes.remove_prefix(static_cast<std::size_t>(written));
    }
  }
  ~MemoryFile() { ::close(fd_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  std::string path() const { return "/proc/self/fd/" + std::to_string(fd_); }

 private:
  int fd_;
};

/// Calls `read`. An lplb::Error with a message is not a crash.
template <class Read>
int run(const Read& read) {
  try {
    read();
  } catch (const Error& error) {
    if (std::string_view(error.what()).empty()) std::abort();
  }
  return 0;
}

inline std::string_view text_of(const std::uint8_t* data, std::size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

}  // namespace lplb::fuzz
