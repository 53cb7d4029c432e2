// SPDX-License-Identifier: MIT
#pragma once

#include <nlohmann/json.hpp>
#include <span>
#include <string>

#include "lplb/solver.h"

namespace lplb::app {

/// Throws InternalError unless verify_split() finds `split` right: nothing else is printed as a
/// result.
void check_split(const Placement& placement, std::span<const Load> load, const Split& split);

/// status, max_load, lower_bound, bottleneck_ranks, rank_load and physical_load. Levels are
/// integers where every rank has speed 1, exact above 2^53 too; else load / speed.
nlohmann::ordered_json split_json(const Placement& placement, const Split& split);

/// A level as tables show it.
std::string level_text(const nlohmann::ordered_json& level);

}  // namespace lplb::app
