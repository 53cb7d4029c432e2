// SPDX-License-Identifier: MIT
#pragma once

#include <cstring>
#include <string>

#include "core/format.h"
#include "lplb/error.h"

namespace lplb::io {

/// A FileError because a system call failed. The Python package raises it with its errno.
class SystemError : public FileError {
 public:
  /// `action` is "cannot be read", say; what the system says follows.
  SystemError(const std::string& path, const char* action, int error_number)
      : FileError(path, "", formatted("{}: {}", action, std::strerror(error_number))),
        error_number_(error_number) {}

  int error_number() const noexcept { return error_number_; }

 private:
  int error_number_;
};

}  // namespace lplb::io
