// SPDX-License-Identifier: MIT
#pragma once

#include <fcntl.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

extern char** environ;

// Ranks that are processes of this machine. A test program starts itself again for each rank, with
// LPLB_TEST_RANK="SCENARIO RANK NUM_RANKS FILE" in the environment.
namespace lplb::testing {

/// A group of processes, which only has an all-gather. It uses a file that all ranks map.
class ProcessGroup {
 public:
  ProcessGroup(int rank, int num_ranks, const std::string& file)
      : rank_(rank), num_ranks_(num_ranks) {
    const int fd = ::open(file.c_str(), O_RDWR);
    if (fd < 0) throw std::runtime_error("cannot open " + file);
    void* const memory = ::mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    ::close(fd);
    if (memory == MAP_FAILED) throw std::runtime_error("cannot map " + file);
    shared_ = static_cast<Shared*>(memory);
  }
  ~ProcessGroup() { ::munmap(shared_, sizeof(Shared)); }
  ProcessGroup(const ProcessGroup&) = delete;
  ProcessGroup& operator=(const ProcessGroup&) = delete;

  int rank() const { return rank_; }
  int num_ranks() const { return num_ranks_; }

  /// Gathers the bytes of all ranks. Throws if a rank does not come within a minute.
  std::vector<std::vector<std::byte>> all_gather(std::span<const std::byte> mine) {
    if (mine.size() > kMost) throw std::runtime_error("too long for the test's all_gather");
    ++calls_;
    Slot* const slots = shared_->slot[calls_ % 2];
    slots[rank_].size = mine.size();
    if (!mine.empty()) std::memcpy(slots[rank_].bytes, mine.data(), mine.size());
    shared_->calls[rank_].store(calls_, std::memory_order_release);
    const auto give_up = std::chrono::steady_clock::now() + std::chrono::minutes(1);
    std::vector<std::vector<std::byte>> all;
    for (int g = 0; g < num_ranks_; ++g) {
      while (shared_->calls[g].load(std::memory_order_acquire) < calls_) {
        if (std::chrono::steady_clock::now() > give_up) {
          throw std::runtime_error("rank " + std::to_string(g) + " does not come");
        }
        std::this_thread::yield();
      }
      all.emplace_back(slots[g].bytes, slots[g].bytes + slots[g].size);
    }
    return all;
  }
  void barrier() { all_gather({}); }

  /// The size of the file in bytes.
  static std::size_t file_bytes() { return sizeof(Shared); }

 private:
  static constexpr std::size_t kMost = 8192;
  static constexpr int kMaxRanks = 16;
  struct Slot {
    std::size_t size;
    std::byte bytes[kMost];
  };
  struct Shared {
    std::atomic<long> calls[kMaxRanks];
    Slot slot[2][kMaxRanks];
  };

  const int rank_;
  const int num_ranks_;
  Shared* shared_ = nullptr;
  long calls_ = 0;
};

/// What this process was started for. If `scenario` is empty, it runs the tests.
struct ProcessRole {
  std::string scenario, file;
  int rank = 0;
  int num_ranks = 0;

  static ProcessRole of_this_process() {
    ProcessRole role;
    const char* const text = std::getenv("LPLB_TEST_RANK");
    if (text == nullptr) return role;
    std::vector<std::string> words(1);
    for (const char* c = text; *c != 0; ++c) {
      if (*c == ' ') {
        words.emplace_back();
      } else {
        words.back() += *c;
      }
    }
    if (words.size() != 4) throw std::runtime_error("LPLB_TEST_RANK: expected 4 words");
    role.scenario = words[0];
    role.rank = std::stoi(words[1]);
    role.num_ranks = std::stoi(words[2]);
    role.file = words[3];
    return role;
  }
};

/// Starts this program once for each rank and waits for all. Returns the statuses of waitpid().
inline std::vector<int> run_ranks(const std::string& scenario, int num_ranks) {
  std::string file = "/tmp/lplb_ranks_XXXXXX";
  const int fd = ::mkstemp(file.data());
  if (fd < 0 || ::ftruncate(fd, static_cast<off_t>(ProcessGroup::file_bytes())) != 0) {
    throw std::runtime_error("cannot make " + file);
  }
  ::close(fd);
  std::vector<pid_t> processes;
  for (int rank = 0; rank < num_ranks; ++rank) {
    std::string role = "LPLB_TEST_RANK=" + scenario + " " + std::to_string(rank) + " " +
                       std::to_string(num_ranks) + " " + file;
    std::vector<char*> environment = {role.data()};
    for (char** variable = environ; *variable != nullptr; ++variable) {
      environment.push_back(*variable);
    }
    environment.push_back(nullptr);
    char self[] = "/proc/self/exe";
    char* arguments[] = {self, nullptr};
    pid_t process = 0;
    if (::posix_spawn(&process, self, nullptr, nullptr, arguments, environment.data()) != 0) {
      throw std::runtime_error("cannot start a rank");
    }
    processes.push_back(process);
  }
  std::vector<int> statuses;
  for (const pid_t process : processes) ::waitpid(process, &statuses.emplace_back(-1), 0);
  ::unlink(file.c_str());
  return statuses;
}

}  // namespace lplb::testing
