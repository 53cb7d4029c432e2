// SPDX-License-Identifier: MIT
#pragma once

#include "lplb/error.h"

namespace lplb::app {

/// What the command ends with; kExitHelp tells users.
enum ExitStatus {
  kDone = 0,
  kFailed = 1,     ///< a fault of the program itself or of the GPU, or no memory
  kBadUsage = 2,   ///< the command line: an option, a name, a value
  kBadInput = 3,   ///< an input file is missing or does not hold what it should
  kBadOutput = 4,  ///< an output cannot be written
};

inline constexpr const char* kExitHelp =
    "Exit status: 0 done; 1 a fault of the program; 2 bad command line; 3 bad input file; 4 output "
    "cannot be written. Any other than 0 comes with one line on standard error.";

/// An output cannot be written.
class OutputError : public Error {
 public:
  using Error::Error;
};

/// The program is wrong: what it computed failed its own check.
class InternalError : public Error {
 public:
  using Error::Error;
};

}  // namespace lplb::app
