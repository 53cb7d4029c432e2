// SPDX-License-Identifier: MIT
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "lplb/types.h"

namespace lplb::replay {

/// An array of arrays (of arrays) of whole numbers. All arrays of the same depth have the same
/// length.
struct FlatArray {
  std::string key;
  std::vector<std::size_t> shape;
  std::vector<Load> values;
};

/// Takes the arrays under `keys` out of `line`, a JSON object, and writes the rest into `rest`,
/// with null in place of the arrays. It takes only what it is sure of: plain arrays of numbers
/// below 10^18. Anything else stays in `rest`, and the strict parser reads or refuses it. This is
/// for speed: nearly all bytes of a trace are numbers, and a JSON library makes an object of each.
void take_arrays(std::string_view line, const std::vector<std::string>& keys, std::string& rest,
                 std::vector<FlatArray>& arrays);

}  // namespace lplb::replay
