// SPDX-License-Identifier: MIT
#include "split_json.h"

#include <algorithm>

#include "core/format.h"
#include "exit_status.h"

namespace lplb::app {

void check_split(const Placement& placement, std::span<const Load> load, const Split& split) {
  const std::string problem = verify_split(placement, load, split);
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
  return json;
}

std::string level_text(const nlohmann::ordered_json& level) {
  return level.is_number_float() ? formatted("{:.3f}", level.get<double>()) : level.dump();
}

}  // namespace lplb::app
