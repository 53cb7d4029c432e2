// SPDX-License-Identifier: MIT

#include <limits>

#include "core/format.h"
#include "io/files.h"

namespace lplb::io {
namespace {

constexpr const char* kKey = "load";

}  // namespace

Matrix<Load> parse_load(std::string_view text, const std::string& path,
                        std::vector<Index>* layers) {
  const Json json = parse_json(text, path);
  const Object object(json, path);
  object.allow_only({kKey, "layers"});
  Matrix<Load> load =
      integer_matrix(object.at(kKey), path, "key load", 0, std::numeric_limits<Load>::max(), false);
  for (std::size_t row = 0; row < load.rows; ++row) {
    Load sum = 0;
    for (std::size_t e = 0; e < load.columns; ++e) {
      if (__builtin_add_overflow(sum, load.values[row * load.columns + e], &sum)) {
        throw FileError(path, formatted("key load[{}]", row),
                        formatted("the sum passes 2^63 - 1 at entry {}", e));
      }
    }
  }
  std::vector<Index> numbers = layer_numbers(object, load.rows);
  if (layers != nullptr) *layers = std::move(numbers);
  return load;
}

Matrix<double> parse_real_load(std::string_view text, const std::string& path,
                               std::vector<Index>* layers) {
  const Json json = parse_json(text, path);
  const Object object(json, path);
  object.allow_only({kKey, "layers"});
  Matrix<double> load = real_matrix(object.at(kKey), path, "key load", false);
  std::vector<Index> numbers = layer_numbers(object, load.rows);
  if (layers != nullptr) *layers = std::move(numbers);
  return load;
}

Matrix<Load> read_load(const std::string& path, std::vector<Index>* layers) {
  return parse_load(read_file(path, kMaxJsonBytes), path == "-" ? "standard input" : path, layers);
}

Matrix<double> read_real_load(const std::string& path, std::vector<Index>* layers) {
  return parse_real_load(read_file(path, kMaxJsonBytes), path == "-" ? "standard input" : path,
                         layers);
}

}  // namespace lplb::io
