// SPDX-License-Identifier: MIT

#include <algorithm>
#include <limits>
#include <numeric>

#include "core/format.h"
#include "io/files.h"

namespace lplb::io {

std::vector<Index> layer_numbers(const Object& object, std::size_t num_layers) {
  std::vector<Index> numbers;
  if (!object.has("layers")) return numbers;
  const Json& json = object.at("layers");
  if (!json.is_array() || json.size() != num_layers) {
    object.fail("layers",
                formatted("is {}, expected a list of {} layer numbers",
                          json.is_array() ? formatted("a list of {}", json.size()) : describe(json),
                          num_layers));
  }
  for (const Json& entry : json) {
    const Index low = numbers.empty() ? 0 : numbers.back() + 1;
    if (!entry.is_number_unsigned() || entry.get<std::uint64_t>() < static_cast<unsigned>(low) ||
        entry.get<std::uint64_t>() >= std::uint64_t{std::numeric_limits<Index>::max()}) {
      object.fail(formatted("layers[{}]", numbers.size()),
                  formatted("is {}, expected an integer from {} to 2^31 - 2, ascending",
                            describe(entry), low));
    }
    numbers.push_back(entry.get<Index>());
  }
  return numbers;
}

std::vector<std::size_t> rows_of_layers(const std::vector<Index>& numbers, std::size_t num_rows,
                                        const std::vector<Index>& layers, std::size_t num_layers) {
  std::vector<std::size_t> rows;
  if (num_rows == num_layers) {
    if (!numbers.empty() && !layers.empty() && numbers != layers) return {};
    rows.resize(num_rows);
    std::iota(rows.begin(), rows.end(), std::size_t{0});
    return rows;
  }
  for (const Index layer : layers) {
    const auto row =
        numbers.empty()
            ? static_cast<std::size_t>(layer)
            : static_cast<std::size_t>(std::ranges::find(numbers, layer) - numbers.begin());
    if (row >= num_rows) return {};
    rows.push_back(row);
  }
  return rows;
}

}  // namespace lplb::io
