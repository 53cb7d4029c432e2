// SPDX-License-Identifier: MIT
#include "rows.h"

#include "core/format.h"
#include "io/files.h"

namespace lplb::app {

Rows read_rows(const std::string& placement, const std::string& load) {
  Rows rows{io::read_placement(placement), io::read_load(load)};
  const auto num_logical = static_cast<std::size_t>(rows.layers[0].num_logical_experts);
  if (rows.load.columns != num_logical) {
    throw FileError(load, "key load",
                    formatted("has {} experts a row, expected {} as in {}", rows.load.columns,
                              num_logical, placement));
  }
  if (rows.layers.size() != 1 && rows.layers.size() != rows.count()) {
    throw FileError(load, "key load",
                    formatted("has {} rows, expected {}: one for each layer of {}", rows.count(),
                              rows.layers.size(), placement));
  }
  return rows;
}

}  // namespace lplb::app
