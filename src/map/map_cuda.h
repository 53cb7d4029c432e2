// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <span>

#include "lplb/types.h"

namespace lplb::map {

/// map_tokens() on the current device, or map_tokens_in_proportion() if `counts` is empty. The
/// arguments have been checked.
void map_cuda(const Placement& placement, std::span<const Load> counts,
              std::span<const Load> physical_load, Index rank,
              std::span<const std::int32_t> topk_idx, std::span<std::int32_t> physical_idx);
void map_cuda(const Placement& placement, std::span<const Load> counts,
              std::span<const Load> physical_load, Index rank,
              std::span<const std::int64_t> topk_idx, std::span<std::int64_t> physical_idx);

}  // namespace lplb::map
