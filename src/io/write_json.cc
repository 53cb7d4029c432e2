// SPDX-License-Identifier: MIT
#include <algorithm>

#include "io/files.h"

namespace lplb::io {
namespace {

using OrderedJson = nlohmann::ordered_json;

/// `values` as a list of rows, each of `columns` entries.
OrderedJson rows_of(const std::vector<Index>& values, std::size_t columns) {
  OrderedJson rows = OrderedJson::array();
  const auto step = static_cast<std::ptrdiff_t>(columns);
  for (auto row = values.begin(); row != values.end(); row += step) {
    rows.push_back(std::vector<Index>(row, row + step));
  }
  return rows;
}

OrderedJson moves_json(const LayerMoves& moves) {
  OrderedJson list = OrderedJson::array();
  for (std::size_t layer = 0; layer < moves.size(); ++layer) {
    for (const Move& move : moves[layer]) {
      list.push_back({{"layer", layer},
                      {"logical", move.logical},
                      {"source", move.source},
                      {"target", move.target},
                      {"kind", move_kind_name(move.kind)}});
    }
  }
  return list;
}

/// The keys that all layers share, and the model's numbers of the layers, if there are any.
OrderedJson group_json(const Placement& group, const std::vector<Index>& numbers) {
  OrderedJson json;
  json["num_ranks"] = group.num_ranks;
  json["num_logical_experts"] = group.num_logical_experts;
  if (!numbers.empty()) json["layers"] = numbers;
  if (group.num_nodes != 1) json["num_nodes"] = group.num_nodes;
  if (!group.rank_speed.empty()) json["rank_speed"] = group.rank_speed;
  if (!group.rank_alive.empty()) {
    json["rank_alive"] = OrderedJson::array();
    for (const char alive : group.rank_alive) json["rank_alive"].push_back(alive != 0);
  }
  return json;
}

/// The slots of each expert, ascending, padded with -1 to `width`.
OrderedJson slots_json(const Placement& layer, Index width) {
  OrderedJson rows = OrderedJson::array();
  for (Index e = 0; e < layer.num_logical_experts; ++e) {
    const std::span<const Index> replicas = layer.replicas(e);
    std::vector<Index> row(replicas.begin(), replicas.end());
    row.resize(static_cast<std::size_t>(width), -1);
    rows.push_back(std::move(row));
  }
  return rows;
}

}  // namespace

std::string placement_json(const std::vector<Placement>& layers,
                           const std::vector<Index>& numbers) {
  Index width = 0;
  for (const Placement& layer : layers) width = std::max(width, layer.max_replicas);
  OrderedJson json = group_json(layers[0], numbers);
  for (const Placement& layer : layers) {
    json["physical_to_logical"].push_back(layer.physical_to_logical);
    json["logical_to_physical"].push_back(slots_json(layer, width));
    json["replica_count"].push_back(layer.replica_count);
  }
  return json_text(json);
}

std::string placement_json(const ExpertMaps& maps, const Placement& group, const LayerMoves* moves,
                           const std::vector<Index>& layers) {
  OrderedJson json = group_json(group, layers);
  const auto num_logical = static_cast<std::size_t>(maps.num_logical);
  const auto max_replicas = static_cast<std::size_t>(maps.max_replicas);
  json["physical_to_logical"] =
      rows_of(maps.physical_to_logical, static_cast<std::size_t>(maps.num_physical));
  json["logical_to_physical"] = OrderedJson::array();
  for (std::size_t i = 0; i < maps.logical_to_physical.size(); i += num_logical * max_replicas) {
    const auto begin = maps.logical_to_physical.begin() + static_cast<std::ptrdiff_t>(i);
    const auto end = begin + static_cast<std::ptrdiff_t>(num_logical * max_replicas);
    json["logical_to_physical"].push_back(rows_of({begin, end}, max_replicas));
  }
  json["replica_count"] = rows_of(maps.replica_count, num_logical);
  if (moves != nullptr) json["moves"] = moves_json(*moves);
  return json_text(json);
}

ExpertMaps maps_of(const std::vector<Placement>& layers) {
  ExpertMaps maps;
  maps.num_layers = static_cast<Index>(layers.size());
  maps.num_physical = layers[0].num_physical();
  maps.num_logical = layers[0].num_logical_experts;
  for (const Placement& layer : layers) {
    maps.max_replicas = std::max(maps.max_replicas, layer.max_replicas);
    maps.physical_to_logical.insert(maps.physical_to_logical.end(),
                                    layer.physical_to_logical.begin(),
                                    layer.physical_to_logical.end());
    maps.replica_count.insert(maps.replica_count.end(), layer.replica_count.begin(),
                              layer.replica_count.end());
  }
  for (const Placement& layer : layers) {
    for (Index e = 0; e < maps.num_logical; ++e) {
      const std::span<const Index> replicas = layer.replicas(e);
      maps.logical_to_physical.insert(maps.logical_to_physical.end(), replicas.begin(),
                                      replicas.end());
      maps.logical_to_physical.insert(maps.logical_to_physical.end(),
                                      static_cast<std::size_t>(maps.max_replicas) - replicas.size(),
                                      -1);
    }
  }
  return maps;
}

std::string json_text(const OrderedJson& json) {
  const auto compact = [](const OrderedJson& value) {
    return value.dump(-1, ' ', false, OrderedJson::error_handler_t::replace);
  };
  std::string text = "{";
  for (const auto& [key, value] : json.items()) {
    text += (text.size() > 1 ? ",\n " : "\n ") + compact(key) + ": ";
    if (!value.is_array() || value.empty() || !value[0].is_structured()) {
      text += compact(value);
      continue;
    }
    for (std::size_t i = 0; i < value.size(); ++i) {
      text += (i == 0 ? "[\n  " : ",\n  ") + compact(value[i]);
    }
    text += "\n ]";
  }
  return text + "\n}\n";
}

}  // namespace lplb::io
