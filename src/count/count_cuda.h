// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <span>

#include "lplb/mapping.h"

namespace lplb::count {

/// count_tokens() on the current device. Its arguments have been checked.
CountStatus count_cuda(std::span<const std::int32_t> topk_idx, std::span<Load> load);
CountStatus count_cuda(std::span<const std::int64_t> topk_idx, std::span<Load> load);

}  // namespace lplb::count
