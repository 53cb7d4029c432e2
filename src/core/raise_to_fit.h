// SPDX-License-Identifier: MIT
#pragma once

#include <span>
#include <vector>

#include "core/cost.h"

namespace lplb {

/// The least level at which `ranks` can carry `need` tokens. Exact, for whole tokens. `heap` is
/// scratch memory: [<= ranks.size()].
Level raise_to_fit(const RankCost& cost, std::span<const Index> ranks, Load need,
                   std::vector<Level>& heap);

}  // namespace lplb
