// SPDX-License-Identifier: MIT
#include <algorithm>
#include <cstdint>

#include "core/check.h"
#include "core/expert_id.h"
#include "count/count_cuda.h"
#include "lplb/mapping.h"

namespace lplb {
namespace {

template <class Id>
CountStatus count_on(std::span<const Id> topk_idx, std::span<Load> load, Backend backend) {
  check_argument(!load.empty() && load.size() <= std::size_t{kMaxPhysical}, "load",
                 "has {} entries, expected num_logical_experts (1 to {})", load.size(),
                 kMaxPhysical);
  if (backend == Backend::kCuda) {
    check_argument(topk_idx.size() <= std::size_t{INT32_MAX}, "topk_idx",
                   "has {} entries, expected at most 2^31 - 1 on backend cuda", topk_idx.size());
    return count::count_cuda(topk_idx, load);
  }
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

CountStatus count_tokens(std::span<const std::int32_t> topk_idx, std::span<Load> load,
                         Backend backend) {
  return count_on(topk_idx, load, backend);
}

CountStatus count_tokens(std::span<const std::int64_t> topk_idx, std::span<Load> load,
                         Backend backend) {
  return count_on(topk_idx, load, backend);
}

}  // namespace lplb
