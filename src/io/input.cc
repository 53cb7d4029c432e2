// SPDX-License-Identifier: MIT
#include "io/input.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "core/format.h"
#include "io/system_error.h"

namespace lplb::io {
namespace {

constexpr int kPatienceMs = 5000;

[[noreturn]] void cannot_read(const std::string& name) {
  throw SystemError(name, "cannot be read", errno);
}

}  // namespace

InputFile::InputFile(const std::string& path)
    : name_(path == "-"    ? "standard input"
            : path.empty() ? "\"\""
                           : path),
      fd_(STDIN_FILENO) {
  if (path == "-") {
    if (::isatty(fd_) != 0) {
      throw FileError(name_, "", "is a terminal, expected a file or a pipe");
    }
  } else {
    // NOTE: without O_NONBLOCK, opening a named pipe hangs until somebody writes to it.
    fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd_ < 0) cannot_read(name_);
  }
  struct stat status {};
  if (::fstat(fd_, &status) != 0) cannot_read(name_);
  if (S_ISREG(status.st_mode)) size_ = status.st_size;
  try {
    if (S_ISDIR(status.st_mode)) throw FileError(name_, "", "is a folder, expected a file");
    if (S_ISFIFO(status.st_mode) && path != "-") wait_for_writer();
  } catch (...) {
    if (path != "-") ::close(fd_);
    throw;
  }
}

/// For a named pipe, which was opened without waiting: waits some time for a writer, then makes
/// reads wait again.
void InputFile::wait_for_writer() {
  pollfd entry{fd_, POLLIN, 0};
  if (::poll(&entry, 1, kPatienceMs) == 0) {
    // NOTE: poll() cannot tell a missing writer from a slow one. A read can: it gives the end of
    // the file, or EAGAIN.
    const ssize_t got = ::read(fd_, &ahead_, 1);
    if (got == 0) {
      throw FileError(
          name_, "", formatted("is a pipe that nobody wrote to in {} seconds", kPatienceMs / 1000));
    }
    has_ahead_ = got == 1;
  }
  ::fcntl(fd_, F_SETFL, ::fcntl(fd_, F_GETFL) & ~O_NONBLOCK);
}

InputFile::InputFile(InputFile&& other) noexcept
    : name_(std::move(other.name_)),
      fd_(std::exchange(other.fd_, -1)),
      size_(other.size_),
      ahead_(other.ahead_),
      has_ahead_(other.has_ahead_) {}

InputFile::~InputFile() {
  if (fd_ > STDIN_FILENO) ::close(fd_);
}

std::size_t InputFile::read(char* out, std::size_t count) {
  if (has_ahead_ && count > 0) {
    *out = ahead_;
    has_ahead_ = false;
    return 1;
  }
  for (;;) {
    const ssize_t got = ::read(fd_, out, count);
    if (got >= 0) return static_cast<std::size_t>(got);
    if (errno != EINTR) cannot_read(name_);
  }
}

}  // namespace lplb::io
