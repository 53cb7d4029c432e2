// SPDX-License-Identifier: MIT
#include <algorithm>

#include "core/check.h"
#include "core/expert_id.h"
#include "lplb/mapping.h"

namespace lplb {
namespace {

template <class Id>
CountStatus count(std::span<const Id> topk_idx, std::span<Load> load) {
  check_argument(!load.empty() && load.size() <= std::size_t{kMaxPhysical}, "load",
                 "has {} entries, expected num_logical_experts (1 to {})", load.size(),
                 kMaxPhysical);
  const auto num_logical = static_cast<Index>(load.size());
  std::fill(load.begin(), load.end(), 0);
  CountStatus status;
  for (const Id id : topk_idx) {
    if (is_expert(id, num_logical)) [[likely]] {
      ++load[static_cast<std::size_t>(id)];
    } else if (id == -1) {
      ++status.dropped;
    } else {
      ++status.out_of_range;
    }
  }
  status.counted =
      static_cast<std::int64_t>(topk_idx.size()) - status.dropped - status.out_of_range;
  return status;
}

}  // namespace

CountStatus count_tokens(std::span<const std::int32_t> topk_idx, std::span<Load> load) {
  return count(topk_idx, load);
}

CountStatus count_tokens(std::span<const std::int64_t> topk_idx, std::span<Load> load) {
  return count(topk_idx, load);
}

}  // namespace lplb
