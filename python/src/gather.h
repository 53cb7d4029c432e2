// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>

#include "bindings.h"

// What objects that connect ranks share.
namespace lplb::python {

/// A deadline in seconds, > 0, as the library takes it.
inline std::chrono::microseconds microseconds_of(double deadline) {
  // NOTE: more than 30 days do not fit the nanoseconds on the device.
  const double seconds = std::min(deadline, 30.0 * 24 * 3600);
  return std::chrono::microseconds(std::max<std::int64_t>(1, std::llround(seconds * 1e6)));
}

/// `gather` takes this rank's bytes and returns a list of each rank's. The result is called without
/// the GIL.
inline AllGatherBytes gather_of(const nb::object& gather) {
  return [&gather](std::span<const std::byte> mine) {
    const nb::gil_scoped_acquire acquire;
    const nb::object all = gather(nb::bytes(mine.data(), mine.size()));
    std::vector<std::vector<std::byte>> result;
    for (const nb::handle one : all) {
      const auto bytes = nb::cast<nb::bytes>(one);
      const auto* const first = static_cast<const std::byte*>(bytes.data());
      result.emplace_back(first, first + bytes.size());
    }
    return result;
  };
}

}  // namespace lplb::python
