// SPDX-License-Identifier: MIT
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "lplb/types.h"

namespace lplb::replay {

/// An array of arrays (of arrays) of whole numbers, all of one length at each depth.
struct FlatArray {
  std::string key;
  std::vector<std::size_t> shape;
  std::vector<Load> values;
};

/// Nearly all of a trace's bytes are numbers, and a JSON library makes an object of each. This
/// takes the arrays under `keys` out of `line`, a JSON object, and writes the rest into `rest`,
/// with null where the arrays were. It takes what it is sure of: plain arrays of numbers below
/// 10^18. Anything else stays in `rest`, for the strict parser to read or to refuse.
void take_arrays(std::string_view line, const std::vector<std::string>& keys, std::string& rest,
                 std::vector<FlatArray>& arrays);

}  // namespace lplb::replay
