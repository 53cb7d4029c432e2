// SPDX-License-Identifier: MIT
#pragma once

#include "core/host_device.h"

// Which levels are tried in which order, the same on the CPU and on the device.
namespace lplb::replicas {

inline constexpr int kMaxTries = 12;  // levels that are tried after the first one
inline constexpr int kMaxDetours = 16;

/// Looks for the least level above `low`, which does not close, that does. Levels that close need
/// not be an interval, so the search halves its interval without a guarantee; every attempt counts,
/// also one that does not close. NOTE: where it goes depends only on which levels close, so that
/// the device can try the levels of several steps in parallel. Tokens: of 32 or 64 bits.
template <class Tokens>
struct SearchInterval {
  Tokens low, high;
  int tries = 0;

  LPLB_HOST_DEVICE bool goes_on() const {
    constexpr Tokens kResolution = 1 << 13;  // levels nearer to each other than this part are one
    return tries < kMaxTries && high - low > low / kResolution + 1;
  }
  /// The next level that it tries.
  LPLB_HOST_DEVICE Tokens middle() const {
    const Tokens part = (high - low) / (tries < 2 ? 8 : 2);
    return low + (part > 1 ? part : 1);
  }
  LPLB_HOST_DEVICE void step(bool closed) {
    const Tokens level = middle();
    ++tries;
    (closed ? high : low) = level;
  }
};

}  // namespace lplb::replicas
