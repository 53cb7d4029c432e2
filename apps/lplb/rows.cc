// SPDX-License-Identifier: MIT
#include "rows.h"

#include <algorithm>

#include "core/format.h"
#include "io/files.h"
#include "simulate/report/markup.h"

namespace lplb::app {

bool Rows::has_tokens(std::size_t row) const {
  return std::ranges::any_of((*this)[row], [](Load tokens) { return tokens > 0; });
}

std::string Imbalances::add(double imbalance, bool has_tokens) {
  if (!has_tokens) {
    ++num_empty_;
    return "-";
  }
  sum_ += imbalance;
  worst_ = std::max(worst_, imbalance);
  ++num_;
  return formatted("{:.4f}", imbalance);
}

std::string Imbalances::mean() const {
  return num_ == 0 ? "-" : formatted("{:.4f}", sum_ / static_cast<double>(num_));
}

std::string Imbalances::worst() const { return num_ == 0 ? "-" : formatted("{:.4f}", worst_); }

std::string Imbalances::empty_text(std::string_view noun) const {
  return num_empty_ == 0 ? ""
                         : formatted(" ({} without tokens)", report::counted(num_empty_, noun));
}

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
