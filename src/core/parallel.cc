// SPDX-License-Identifier: MIT
#include "core/parallel.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace lplb {

void parallel_chunks(std::int64_t count, std::int64_t chunk, int num_threads,
                     const std::function<void(std::int64_t, std::int64_t, int)>& body) {
  const std::int64_t num_chunks = (count + chunk - 1) / chunk;
  std::atomic<std::int64_t> next{0};
  std::mutex mutex;
  std::exception_ptr error;
  std::int64_t error_chunk = num_chunks;

  auto work = [&](int thread) {
    for (;;) {
      const std::int64_t i = next.fetch_add(1, std::memory_order_relaxed);
      if (i >= num_chunks) return;
      try {
        body(i * chunk, std::min(count, (i + 1) * chunk), thread);
      } catch (...) {
        // NOTE: chunks are handed out in order, so all lower chunks have started, and each reports
        // its own error. So the lowest chunk wins, whatever the timing.
        const std::lock_guard lock(mutex);
        next.store(num_chunks, std::memory_order_relaxed);
        if (i < error_chunk) {
          error_chunk = i;
          error = std::current_exception();
        }
      }
    }
  };

  const auto helpers =
      static_cast<int>(std::clamp<std::int64_t>(num_chunks - 1, 0, std::max(num_threads - 1, 0)));
  {
    std::vector<std::jthread> threads;
    threads.reserve(static_cast<std::size_t>(helpers));
    for (int t = 1; t <= helpers; ++t) threads.emplace_back(work, t);
    work(0);
  }
  if (error) std::rethrow_exception(error);
}

}  // namespace lplb
