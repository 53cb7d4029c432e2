// SPDX-License-Identifier: MIT
#include "split_json.h"

#include <algorithm>

#include "core/format.h"
#include "exit_status.h"
#include "lplb/cost_file.h"

namespace lplb::app {

std::optional<CostModel> read_cost(const std::string& path, Index num_ranks) {
  if (path.empty()) return std::nullopt;
  CostModel model = load_cost_model(path);
  const std::size_t tables = model.tables().size();
  if (tables != 1 && tables != static_cast<std::size_t>(num_ranks)) {
    throw FileError(path, "key ranks",
                    formatted("has {} tables, expected num_ranks ({})", tables, num_ranks));
  }
  return model;
}

void check_split(const Placement& placement, std::span<const Load> load, const Split& split,
                 const CostModel* cost) {
  const std::string problem = verify_split(placement, load, split, cost);
  if (!problem.empty()) throw InternalError("the split failed its check: " + problem);
}

nlohmann::ordered_json level_json(const Placement& placement, Level level, double price) {
  const bool unit_speeds = std::all_of(placement.rank_speed.begin(), placement.rank_speed.end(),
                                       [](double speed) { return speed == 1; });
  if (unit_speeds) return level.tokens;
  return price;
}

nlohmann::ordered_json split_json(const Placement& placement, const Split& split) {
  nlohmann::ordered_json json;
  json["status"] = status_name(split.status);
  json["max_load"] = level_json(placement, split.max_level, split.max_load);
  json["lower_bound"] = level_json(placement, split.bound_level, split.lower_bound);
  json["bottleneck_ranks"] = split.bottleneck_ranks;
  json["rank_load"] = split.rank_load;
  json["physical_load"] = split.physical_load;
  if (!split.cost.rank_cost.empty()) {
    json["max_cost"] = split.cost.max_cost;
    json["cost_lower_bound"] = split.cost.lower_bound;
    json["cost_bottleneck_ranks"] = split.cost.bottleneck_ranks;
    json["rank_cost"] = nlohmann::ordered_json::array();
    for (const Cost cost : split.cost.rank_cost) {
      json["rank_cost"].push_back(static_cast<double>(cost) / static_cast<double>(kCostsPerUnit));
    }
    json["active_experts"] = split.cost.active_experts;
  }
  return json;
}

std::string level_text(const nlohmann::ordered_json& level) {
  return level.is_number_float() ? formatted("{:.3f}", level.get<double>()) : level.dump();
}

}  // namespace lplb::app
