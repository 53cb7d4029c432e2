// SPDX-License-Identifier: MIT
#pragma once

#include <string>
#include <string_view>

namespace lplb::io {

/// Writes a file as a whole or not at all: it writes a new file in the same folder, flushes it to
/// disk, and renames it to `path`. "-" is standard output. An existing file keeps its mode, and a
/// link stays a link. Devices and pipes are written in place.
///
/// Throws FileError: no such folder, no permission, full disk, closed pipe, a named pipe that
/// nobody opens for reading within 5 seconds. NOTE: a closed pipe gives an error only if the
/// program ignores SIGPIPE; otherwise the signal ends the program.
void write_file(const std::string& path, std::string_view content);

/// Removes the unfinished new file of a write_file() that is under way. For the handler of a signal
/// that ends the program; it is safe to call there.
void discard_unfinished() noexcept;

/// Throws FileError if write_file() could not write `path`: it is a folder, its folder does not
/// exist, or permission is missing. To be called before long work whose result would be lost.
void check_output(const std::string& path);

}  // namespace lplb::io
