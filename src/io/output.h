// SPDX-License-Identifier: MIT
#pragma once

#include <string>
#include <string_view>

namespace lplb::io {

/// Writes `path` whole or not at all: beside it, flushed to disk, then renamed over it. "-" is
/// standard output. An existing file keeps its mode, a link stays a link; devices and pipes are
/// written in place. Throws FileError (no such folder, no permission, full disk, closed pipe, a
/// named pipe that nobody opens for reading within 5 seconds). NOTE: a closed pipe is an error only
/// where SIGPIPE is ignored, which is the program's business.
void write_file(const std::string& path, std::string_view content);

/// Removes what write_file() has written beside a file so far: for the handler of a signal that
/// ends the program, and safe there.
void discard_unfinished() noexcept;

/// Throws the FileError that write_file() would surely meet (a folder, no such folder, no
/// permission): to be called before work whose result would be lost.
void check_output(const std::string& path);

}  // namespace lplb::io
