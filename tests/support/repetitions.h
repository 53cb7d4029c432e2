// SPDX-License-Identifier: MIT
#pragma once

namespace lplb::testing {

/// How often a test of an emulated kernel repeats itself with random instances: `all` times in an
/// optimised build, a quarter of it under AddressSanitizer, which needs no instance for each
/// result, and `few` times under ThreadSanitizer, where each thread of a block is one of the system
/// and takes a thousand times as long.
constexpr int repetitions([[maybe_unused]] int all, [[maybe_unused]] int few) {
#if defined(__SANITIZE_THREAD__)
  return few;
#elif defined(__SANITIZE_ADDRESS__)
  return all / 4;
#else
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
  return few;
#elif __has_feature(address_sanitizer)
  return all / 4;
#endif
#endif
  return all;
#endif
}

}  // namespace lplb::testing
