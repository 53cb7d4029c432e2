// SPDX-License-Identifier: MIT
#include "lplb/files.h"

#include "core/check.h"
#include "io/files.h"
#include "io/output.h"

namespace lplb {
namespace {

/// Checks the model's numbers of a file's rows.
void check_layers(const std::vector<Index>& layers, std::size_t num_rows) {
  if (layers.empty()) return;
  check_argument(layers.size() == num_rows, "layers", "has {} numbers, expected {}", layers.size(),
                 num_rows);
  Index before = -1;
  for (const Index layer : layers) {
    check_argument(layer > before, "layers", "has {} after {}, expected ascending numbers >= 0",
                   layer, before);
    before = layer;
  }
}

/// Throws ArgumentError unless `layer` has the group of `first`.
void check_group(const Placement& layer, const Placement& first, std::size_t i) {
  const auto same = [i](const auto& value, const auto& wanted, const char* name) {
    check_argument(value == wanted, "placements", "[{}] has another {} than [0]", i, name);
  };
  same(layer.num_ranks, first.num_ranks, "num_ranks");
  same(layer.num_nodes, first.num_nodes, "num_nodes");
  same(layer.num_logical_experts, first.num_logical_experts, "num_logical_experts");
  same(layer.rank_speed, first.rank_speed, "rank_speed");
  same(layer.rank_alive, first.rank_alive, "rank_alive");
}

}  // namespace

LoadFile read_load_file(const std::string& path) {
  LoadFile file;
  io::Matrix<Load> load = io::read_load(path, &file.layers);
  if (load.columns > std::size_t{kMaxPhysical}) {
    throw FileError(
        path, "key load",
        formatted("has {} experts a row, expected at most {}", load.columns, kMaxPhysical));
  }
  file.num_logical_experts = static_cast<Index>(load.columns);
  file.load = std::move(load.values);
  return file;
}

void write_load_file(const LoadFile& file, const std::string& path) {
  const Index num_logical = file.num_logical_experts;
  check_argument(num_logical >= 1 && num_logical <= kMaxPhysical, "num_logical_experts",
                 "{} is not between 1 and {}", num_logical, kMaxPhysical);
  const auto columns = static_cast<std::size_t>(num_logical);
  check_argument(!file.load.empty() && file.load.size() % columns == 0, "load",
                 "has {} entries, expected a multiple of num_logical_experts ({})",
                 file.load.size(), num_logical);
  check_layers(file.layers, file.load.size() / columns);
  nlohmann::ordered_json json;
  if (!file.layers.empty()) json["layers"] = file.layers;
  for (std::size_t begin = 0; begin < file.load.size(); begin += columns) {
    const std::span row = std::span(file.load).subspan(begin, columns);
    Load sum = 0;
    for (std::size_t e = 0; e < columns; ++e) {
      check_argument(row[e] >= 0, "load", "[{}, {}] is {}, expected an integer >= 0",
                     begin / columns, e, row[e]);
      check_argument(!__builtin_add_overflow(sum, row[e], &sum), "load",
                     "row {} sums to 2^63 or more", begin / columns);
    }
    json["load"].push_back(std::vector<Load>(row.begin(), row.end()));
  }
  io::write_file(path, io::json_text(json));
}

PlacementFile read_placement_file(const std::string& path) {
  PlacementFile file;
  file.placements = io::read_placement(path, &file.layers);
  return file;
}

void write_placement_file(const PlacementFile& file, const std::string& path) {
  check_argument(!file.placements.empty(), "placements", "is empty, expected one for each layer");
  for (std::size_t i = 1; i < file.placements.size(); ++i) {
    check_group(file.placements[i], file.placements[0], i);
  }
  check_layers(file.layers, file.placements.size());
  io::write_file(path, io::placement_json(file.placements, file.layers));
}

}  // namespace lplb
