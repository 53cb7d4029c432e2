// SPDX-License-Identifier: MIT
#pragma once

#include <cmath>
#include <cstdint>

#include "core/host_device.h"
#include "core/wide.h"
#include "lplb/types.h"

// Speeds as the rational numbers that they are, so that loads of ranks with different speeds are
// compared exactly, on the CPU and on the device alike.
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

/// -1 if `a` tokens at speed `of_a` take less time than `b` tokens at speed `of_b`, 0 if as much, 1
/// if more. Tokens must be >= 0.
LPLB_HOST_DEVICE inline int compare_times(Load a, const ExactSpeed& of_a, Load b,
                                          const ExactSpeed& of_b) {
  // a / s_a < b / s_b  <=>  a * s_b < b * s_a, with s = m * 2^e.
  constexpr int kBits = 128;
  constexpr int kSpare = kBits - 63 - 53;  // bits that a product leaves free
  Uint128 left = static_cast<Uint128>(a) * of_b.mantissa;
  Uint128 right = static_cast<Uint128>(b) * of_a.mantissa;
  const int shift = of_b.exponent - of_a.exponent;
  if (shift > 0 && left != 0) {
    if (shift > kSpare && (shift >= kBits || left >> (kBits - shift) != 0)) return 1;
    left <<= shift;
  } else if (shift < 0 && right != 0) {
    if (-shift > kSpare && (-shift >= kBits || right >> (kBits + shift) != 0)) return -1;
    right <<= -shift;
  }
  return left < right ? -1 : left > right ? 1 : 0;
}

/// The most tokens n, at most `limit`, for which fits(n) holds. It holds for 0, and up to some
/// number. `estimate` >= 0 is near the result, and off only by rounding: a bracket around it is
/// widened, then halved.
LPLB_CALLS_ANY
template <class Fits>
LPLB_HOST_DEVICE inline Load most_that_fit(double estimate, Load limit, Fits fits) {
  Load low = estimate >= static_cast<double>(limit) ? limit : static_cast<Load>(estimate);
  for (Load step = 1; low > 0 && !fits(low); step *= 2) low = low > step ? low - step : 0;
  Load high = low;  // fits at low; does not fit at high, if that is above it
  for (Load step = 1; high < limit; step *= 2) {
    high = limit - high > step ? high + step : limit;
    if (!fits(high)) break;
    low = high;
  }
  while (high - low > 1) {
    const Load middle = low + (high - low) / 2;
    (fits(middle) ? low : high) = middle;
  }
  return low;
}

}  // namespace lplb
