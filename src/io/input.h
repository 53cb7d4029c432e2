// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace lplb::io {

/// A file open for reading from front to back: on disk, a pipe, a device, or standard input ("-").
class InputFile {
 public:
  /// Throws FileError for a folder, a terminal as standard input, what is missing or may not be
  /// read, and a named pipe that nobody writes to within 5 seconds.
  explicit InputFile(const std::string& path);
  ~InputFile();
  InputFile(InputFile&& other) noexcept;
  InputFile& operator=(InputFile&&) = delete;

  /// What messages call it: the path, or "standard input".
  const std::string& name() const { return name_; }
  /// Bytes of a file on disk, -1 for anything else.
  std::int64_t size() const { return size_; }
  /// Up to `count` bytes; 0 at the end alone. Throws FileError.
  std::size_t read(char* out, std::size_t count);

 private:
  void wait_for_writer();

  std::string name_;
  int fd_;
  std::int64_t size_ = -1;
  char ahead_ = 0;  // a byte read to see whether there is a writer
  bool has_ahead_ = false;
};

}  // namespace lplb::io
