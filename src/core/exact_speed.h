// SPDX-License-Identifier: MIT
#pragma once

#include <cmath>
#include <cstdint>

namespace lplb {

/// A speed as mantissa * 2^exponent, exactly, with a mantissa in [2^52, 2^53). `speed` is a normal
/// number > 0.
struct ExactSpeed {
  explicit ExactSpeed(double speed)
      : mantissa(static_cast<std::uint64_t>(std::ldexp(std::frexp(speed, &exponent), 53))) {
    exponent -= 53;
  }

  int exponent = 0;  // NOTE: before the mantissa, whose initializer sets it
  std::uint64_t mantissa;
};

}  // namespace lplb
