// SPDX-License-Identifier: MIT
#pragma once

#include <stdexcept>
#include <string>

#include "lplb/export.h"

namespace lplb {

/// The base class of all exceptions of this library. The library throws; it never prints, aborts or
/// exits. A message names the argument or file, its value, and what was expected.
class LPLB_API Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// An argument is outside its contract: wrong length, value out of range, unknown name.
class LPLB_API ArgumentError : public Error {
 public:
  /// `argument` is the name as the caller wrote it; `what()` is "argument: problem".
  ArgumentError(std::string argument, const std::string& problem)
      : Error(argument + ": " + problem), argument_(std::move(argument)) {}

  const std::string& argument() const noexcept { return argument_; }

 private:
  std::string argument_;
};

/// A file cannot be read or written, or does not hold what its format promises.
class LPLB_API FileError : public Error {
 public:
  /// `position` says where ("line 3, column 7", "key load[2]", "byte 128"); it may be empty.
  FileError(std::string path, const std::string& position, const std::string& problem)
      : Error(path + (position.empty() ? "" : ": " + position) + ": " + problem),
        path_(std::move(path)) {}

  const std::string& path() const noexcept { return path_; }

 private:
  std::string path_;
};

/// The ranks of a group cannot exchange: they disagree on what they exchange, the group is closed,
/// no transport works, or NCCL or NVSHMEM fails. A peer that is only late is not an error: the
/// batch is planned without its counts, and counted as degraded.
class LPLB_API ExchangeError : public Error {
 public:
  using Error::Error;
};

}  // namespace lplb
