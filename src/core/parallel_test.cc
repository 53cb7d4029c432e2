// SPDX-License-Identifier: MIT
#include "core/parallel.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace lplb {
namespace {

TEST(ParallelChunks, VisitsEachIndexOnce) {
  for (const int threads : {0, 1, 2, 7}) {
    for (const std::int64_t count : {0, 1, 5, 64, 65}) {
      std::vector<int> seen(static_cast<std::size_t>(count), 0);
      parallel_chunks(count, 8, threads, [&](std::int64_t begin, std::int64_t end, int thread) {
        EXPECT_LT(begin, end);
        EXPECT_GE(thread, 0);
        EXPECT_LT(thread, std::max(threads, 1));
        for (std::int64_t i = begin; i < end; ++i) ++seen[static_cast<std::size_t>(i)];
      });
      EXPECT_EQ(seen, std::vector<int>(static_cast<std::size_t>(count), 1));
    }
  }
}

TEST(ParallelChunks, RethrowsTheLowestChunksError) {
  for (int repeat = 0; repeat < 20; ++repeat) {
    try {
      parallel_chunks(100, 1, 4, [](std::int64_t begin, std::int64_t, int) {
        if (begin >= 3) throw std::runtime_error(std::to_string(begin));
      });
      FAIL() << "no exception";
    } catch (const std::runtime_error& e) {
      EXPECT_STREQ(e.what(), "3");
    }
  }
}

TEST(ParallelChunks, UsesAsManyThreadsAsAsked) {
  // Each chunk waits until all have begun, which takes a thread for each of them.
  std::mutex mutex;
  std::condition_variable all_begun;
  int begun = 0;
  parallel_chunks(3, 1, 3, [&](std::int64_t, std::int64_t, int) {
    std::unique_lock lock(mutex);
    ++begun;
    all_begun.notify_all();
    EXPECT_TRUE(all_begun.wait_for(lock, std::chrono::seconds(20), [&] { return begun == 3; }));
  });
}

TEST(ParallelChunks, OneThreadIsTheCaller) {
  const std::thread::id caller = std::this_thread::get_id();
  for (const int threads : {0, 1}) {
    parallel_chunks(20, 1, threads, [&](std::int64_t, std::int64_t, int) {
      EXPECT_EQ(std::this_thread::get_id(), caller);
      std::this_thread::sleep_for(std::chrono::milliseconds(1));  // another thread would get a turn
    });
  }
}

}  // namespace
}  // namespace lplb
