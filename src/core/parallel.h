// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <functional>

namespace lplb {

/// Cuts [0, count) into chunks and calls body(begin, end, thread) for each, from `num_threads`
/// threads. The caller is one of them; `thread` is in [0, num_threads). Chunks are handed out in
/// order. If calls throw, the exception of the lowest chunk is rethrown after all threads have
/// stopped, and later chunks may be skipped. With num_threads <= 1 only the caller runs.
void parallel_chunks(std::int64_t count, std::int64_t chunk, int num_threads,
                     const std::function<void(std::int64_t, std::int64_t, int)>& body);

}  // namespace lplb
