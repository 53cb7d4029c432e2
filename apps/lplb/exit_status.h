// SPDX-License-Identifier: MIT
#pragma once

#include "lplb/error.h"

namespace lplb::app {

/// The exit status of the command. kExitHelp explains it to users.
enum ExitStatus {
  kDone = 0,
  kFailed = 1,     ///< a fault of the program itself or of the GPU, or no memory
  kBadUsage = 2,   ///< the command line: an option, a name, a value
  kBadInput = 3,   ///< an input file is missing or does not hold what it should
  kBadOutput = 4,  ///< an output cannot be written
};

inline constexpr const char* kExitHelp =
    "Exit status: 0 done; 1 a fault of the program; 2 bad command line; 3 bad input file; 4 output "
    "cannot be written. Unless it is 0, one line on standard error says why.";

/// Thrown if an output cannot be written.
class OutputError : public Error {
 public:
  using Error::Error;
};

/// Thrown if nobody reads standard output any more, as in `lplb ... | head`. The program then ends
/// as others do, by SIGPIPE and without a word.
class ClosedPipe : public Error {
 public:
  ClosedPipe() : Error("standard output: nobody reads it") {}
};

/// Thrown if the program has a bug: its result failed its own check.
class InternalError : public Error {
 public:
  using Error::Error;
};

}  // namespace lplb::app
