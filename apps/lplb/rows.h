// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/json.h"
#include "lplb/types.h"

namespace lplb::app {

/// The placement and the loads of a command whose placement has one layer that serves every row of
/// the load file, or a layer for each row.
struct Rows {
  std::vector<Placement> layers;
  io::Matrix<Load> load;

  std::size_t count() const { return load.rows; }
  std::size_t layer_of(std::size_t row) const { return layers.size() == 1 ? 0 : row; }
  const Placement& placement(std::size_t row) const { return layers[layer_of(row)]; }
  std::span<const Load> operator[](std::size_t row) const {
    return {load.values.data() + row * load.columns, load.columns};
  }
  bool has_tokens(std::size_t row) const;
};

/// How many rows a thread takes at once.
inline constexpr std::int64_t kRowsAtOnce = 8;

/// The imbalances of a table's rows. Rows without tokens have none.
class Imbalances {
 public:
  /// Adds a row, and returns what its cell says: "-" if the row has no tokens.
  std::string add(double imbalance, bool has_tokens);
  std::int64_t num_empty() const { return num_empty_; }
  /// Mean and maximum are over the rows with tokens; "-" if there are none.
  std::string mean() const;
  std::string worst() const;
  /// " (2 rows without tokens)", or nothing.
  std::string empty_text(std::string_view noun) const;

 private:
  double sum_ = 0;
  double worst_ = 0;
  std::int64_t num_ = 0;
  std::int64_t num_empty_ = 0;
};

/// Reads both files. Throws FileError if the numbers of experts or of layers disagree.
Rows read_rows(const std::string& placement, const std::string& load);

}  // namespace lplb::app
