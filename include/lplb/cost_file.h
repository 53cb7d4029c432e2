// SPDX-License-Identifier: MIT
#pragma once

#include <string>

#include "lplb/cost.h"
#include "lplb/export.h"

namespace lplb {

/// Reads a cost model from a file of docs/formats.md; "-" is standard input. Throws FileError,
/// which names the key, its value and what was expected.
LPLB_API CostModel load_cost_model(const std::string& path);

/// Writes a cost model, whole or not at all; "-" is standard output. load_cost_model() then gives
/// an equal one. Throws FileError.
LPLB_API void save_cost_model(const CostModel& model, const std::string& path);

}  // namespace lplb
