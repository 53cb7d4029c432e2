// SPDX-License-Identifier: MIT
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>

#include "lplb/solver.h"

namespace lplb::app {

/// The cost model in a file, or nothing if `path` is empty. Throws FileError, also if its tables
/// are not one or one for each rank of `placement`.
std::optional<CostModel> read_cost(const std::string& path, Index num_ranks);

/// Throws InternalError unless verify_split() finds that `split` is right. So no wrong result is
/// ever printed.
void check_split(const Placement& placement, std::span<const Load> load, const Split& split,
                 const CostModel* cost = nullptr);

/// A level as JSON. If every rank has speed 1, it is the integer number of tokens, which is exact
/// above 2^53 too. Otherwise it is `price`, load / speed.
nlohmann::ordered_json level_json(const Placement& placement, Level level, double price);

/// JSON with status, max_load, lower_bound, bottleneck_ranks, rank_load and physical_load.
nlohmann::ordered_json split_json(const Placement& placement, const Split& split);

/// max_load or lower_bound as tables show it.
std::string level_text(const nlohmann::ordered_json& level);

}  // namespace lplb::app
