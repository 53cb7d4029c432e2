// SPDX-License-Identifier: MIT
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "io/json.h"

namespace lplb::io {
namespace {

constexpr std::size_t kChunk = std::size_t{1} << 16;
constexpr int kPipePatienceMs = 5000;
constexpr int kPollMs = 50;

/// Closes what it opened, standard input never.
class Descriptor {
 public:
  Descriptor(int fd, bool owned) : fd_(fd), owned_(owned) {}
  ~Descriptor() {
    if (owned_) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
  bool owned_;
};

[[noreturn]] void cannot_read(const std::string& name) {
  throw FileError(name, "", fmt::format("cannot be read: {}", std::strerror(errno)));
}

/// A named pipe was opened without waiting: gives a writer some time to come, then goes back to
/// reads that wait.
void wait_for_writer(int fd, const std::string& name) {
  char unused = 0;
  for (int waited = 0; ::read(fd, &unused, 0) == 0; waited += kPollMs) {
    pollfd entry{fd, POLLIN, 0};
    if (::poll(&entry, 1, kPollMs) != 0) break;  // data, or a writer that came and went
    if (waited >= kPipePatienceMs) {
      throw FileError(
          name, "",
          fmt::format("is a pipe that sent nothing for {} seconds", kPipePatienceMs / 1000));
    }
  }
  ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) & ~O_NONBLOCK);
}

}  // namespace

std::string read_file(const std::string& path, std::size_t max_bytes) {
  const bool standard = path == "-";
  const std::string name = standard ? "standard input" : path;
  if (standard && ::isatty(STDIN_FILENO) != 0) {
    throw FileError(name, "", "is a terminal, expected a file or a pipe");
  }
  // NOTE: without O_NONBLOCK, opening a named pipe hangs until somebody writes to it.
  const Descriptor file(
      standard ? STDIN_FILENO : ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK), !standard);
  struct stat status {};
  if (file.get() < 0 || ::fstat(file.get(), &status) != 0) cannot_read(name);
  if (S_ISDIR(status.st_mode)) throw FileError(name, "", "is a folder, expected a file");
  if (S_ISREG(status.st_mode) && static_cast<std::uintmax_t>(status.st_size) > max_bytes) {
    throw FileError(name, "",
                    fmt::format("has {} bytes, expected at most {}", status.st_size, max_bytes));
  }
  if (S_ISFIFO(status.st_mode) && !standard) wait_for_writer(file.get(), name);

  std::string content;
  std::size_t size = 0;
  for (;;) {
    if (content.size() - size < kChunk) content.resize(std::max(2 * size, size + kChunk));
    const ssize_t got = ::read(file.get(), content.data() + size, content.size() - size);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) cannot_read(name);
    if (got == 0) break;
    size += static_cast<std::size_t>(got);
    if (size > max_bytes) {
      throw FileError(name, "", fmt::format("has more than {} bytes", max_bytes));
    }
  }
  content.resize(size);
  return content;
}

}  // namespace lplb::io
