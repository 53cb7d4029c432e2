// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace lplb::io {

/// A file that is read from front to back: on disk, a pipe, a device, or standard input ("-").
class InputFile {
 public:
  /// Throws FileError for a folder, for a terminal as standard input, for a file that does not
  /// exist or may not be read, and for a named pipe to which nobody writes within 5 seconds.
  explicit InputFile(const std::string& path);
  ~InputFile();
  InputFile(InputFile&& other) noexcept;
  InputFile& operator=(InputFile&&) = delete;

  /// The file's name in messages: the path, or "standard input".
  const std::string& name() const { return name_; }
  /// The size of a file on disk, in bytes; -1 for anything else.
  std::int64_t size() const { return size_; }
  /// Reads up to `count` bytes and returns how many; 0 only at the end. Throws FileError.
  std::size_t read(char* out, std::size_t count);

 private:
  void wait_for_writer();

  std::string name_;
  int fd_;
  std::int64_t size_ = -1;
  char ahead_ = 0;  // a byte that was read to see whether there is a writer
  bool has_ahead_ = false;
};

}  // namespace lplb::io
