// SPDX-License-Identifier: MIT
#pragma once

#include <string>
#include <vector>

#include "place_job.h"

namespace lplb::app {

/// The table that `lplb place` prints: what an even split gives in each layer, and if there are
/// `moves`, what it gave with the old placement and how far weights move. `moves` may be null.
/// With policy homes also what the exact split or copies give, by `placed`.
std::string place_table(const PlaceJob& job, const std::vector<Placement>& layers,
                        const io::LayerMoves* moves, const PlaceResult& placed);

}  // namespace lplb::app
