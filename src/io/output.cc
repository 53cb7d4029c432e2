// SPDX-License-Identifier: MIT
#include "io/output.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <thread>

#include "core/format.h"
#include "io/system_error.h"
#include "lplb/error.h"

namespace lplb::io {
namespace {

namespace fs = std::filesystem;

constexpr const char* kStandardOutput = "standard output";
constexpr auto kPatience = std::chrono::seconds(5);

/// The new file that is being written, for discard_unfinished().
std::atomic<const char*> unfinished{nullptr};
static_assert(std::atomic<const char*>::is_always_lock_free);

[[noreturn]] void cannot_write(const std::string& name, int error) {
  throw SystemError(name, "cannot be written", error);
}

/// Returns 0, or errno of the write that failed.
int write_all(int fd, std::string_view content) {
  while (!content.empty()) {
    const ssize_t written = ::write(fd, content.data(), content.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return errno;
    content.remove_prefix(static_cast<std::size_t>(written));
  }
  return 0;
}

/// The file that a path leads to.
struct Target {
  std::string path;  ///< after links are followed
  bool exists = false;
  bool regular = false;
  bool pipe = false;
  mode_t mode = 0;
};

Target find_target(const std::string& path) {
  if (path.empty()) throw FileError("\"\"", "", "is no file name");
  Target target{path};
  struct stat status {};
  if (::stat(path.c_str(), &status) == 0) {
    if (S_ISDIR(status.st_mode)) throw FileError(path, "", "is a folder, expected a file");
    if (::access(path.c_str(), W_OK) != 0) cannot_write(path, errno);
    target.exists = true;
    target.regular = S_ISREG(status.st_mode);
    target.pipe = S_ISFIFO(status.st_mode);
    target.mode = status.st_mode & 07777;
    std::error_code ignored;
    if (const fs::path real = fs::canonical(path, ignored); target.regular && !real.empty()) {
      target.path = real.string();
    }
  } else if (errno != ENOENT) {
    cannot_write(path, errno);
  }
  return target;
}

std::string folder_of(const std::string& path) {
  const std::string folder = fs::path(path).parent_path().string();
  return folder.empty() ? "." : folder;
}

/// Opens a new file in `folder`, with the mode that the umask leaves, and puts its name in
/// `temporary`.
int open_beside(const std::string& folder, std::string& temporary) {
  static std::atomic<unsigned> counter{0};
  int fd = -1;
  do {
    temporary = formatted("{}/.lplb-{}-{}.tmp", folder, ::getpid(), counter++);
    unfinished = temporary.c_str();
    fd = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  } while (fd < 0 && errno == EEXIST);
  return fd;
}

/// NOTE: without O_NONBLOCK, opening a named pipe hangs until somebody reads from it.
int open_pipe(const std::string& path) {
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  int fd = -1;
  while ((fd = ::open(path.c_str(), O_WRONLY | O_CLOEXEC | O_NONBLOCK)) < 0 && errno == ENXIO) {
    if (std::chrono::steady_clock::now() >= deadline) {
      throw FileError(path, "",
                      formatted("is a pipe that nobody read from in {} seconds",
                                std::chrono::seconds(kPatience).count()));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  if (fd >= 0) ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) & ~O_NONBLOCK);
  return fd;
}

/// For devices and pipes, which cannot be replaced by a renamed file.
void write_in_place(const Target& target, const std::string& path, std::string_view content) {
  const int fd = target.pipe ? open_pipe(path) : ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
  if (fd < 0) cannot_write(path, errno);
  const int error = write_all(fd, content);
  ::close(fd);
  if (error != 0) cannot_write(path, error);
}

}  // namespace

void write_file(const std::string& path, std::string_view content) {
  if (path == "-") {
    std::fflush(stdout);
    if (const int error = write_all(STDOUT_FILENO, content); error != 0) {
      cannot_write(kStandardOutput, error);
    }
    return;
  }
  const Target target = find_target(path);
  if (target.exists && !target.regular) return write_in_place(target, path, content);

  std::string temporary;
  const int fd = open_beside(folder_of(target.path), temporary);
  int error = fd < 0 ? errno : write_all(fd, content);
  if (error == 0 && target.exists && ::fchmod(fd, target.mode) != 0) error = errno;
  if (error == 0 && ::fsync(fd) != 0) error = errno;
  if (fd >= 0 && ::close(fd) != 0 && error == 0) error = errno;
  if (error == 0 && ::rename(temporary.c_str(), target.path.c_str()) != 0) error = errno;
  if (error != 0 && fd >= 0) ::unlink(temporary.c_str());
  unfinished = nullptr;
  if (error != 0) cannot_write(path, error);
}

void discard_unfinished() noexcept {
  if (const char* path = unfinished; path != nullptr) ::unlink(path);
}

void check_output(const std::string& path) {
  if (path == "-") return;
  const Target target = find_target(path);
  if (target.exists && !target.regular) return;
  const std::string folder = folder_of(target.path);
  if (::access(folder.c_str(), W_OK | X_OK) != 0) cannot_write(path, errno);
}

}  // namespace lplb::io
