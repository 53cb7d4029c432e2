// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <functional>

namespace lplb {

/// Calls body(begin, end, thread) over chunks of [0, count) from `num_threads` threads, the caller
/// among them; `thread` is in [0, num_threads). Chunks are handed out in order. The exception of
/// the lowest chunk that threw is rethrown once all threads have stopped; chunks after a throw may
/// be skipped. num_threads <= 1 runs in the caller alone.
void parallel_chunks(std::int64_t count, std::int64_t chunk, int num_threads,
                     const std::function<void(std::int64_t, std::int64_t, int)>& body);

}  // namespace lplb
