// SPDX-License-Identifier: MIT
#pragma once

#include <span>
#include <string>
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
};

/// Reads both files. Throws FileError if the numbers of experts or of layers disagree.
Rows read_rows(const std::string& placement, const std::string& load);

}  // namespace lplb::app
