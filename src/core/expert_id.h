// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include "core/host_device.h"
#include "lplb/types.h"

namespace lplb {

/// Whether an entry of topk_idx names an expert.
/// NOTE: all code must use this test. If counting and mapping disagreed, a cursor would run past
/// the tokens that were counted.
template <class Id>
LPLB_HOST_DEVICE constexpr bool is_expert(Id id, Index num_logical) {
  // Sign extension makes every negative id huge.
  return static_cast<std::uint64_t>(static_cast<std::int64_t>(id)) <
         static_cast<std::uint64_t>(num_logical);
}

}  // namespace lplb
