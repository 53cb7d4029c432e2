// SPDX-License-Identifier: MIT
#include "core/no_cuda.h"
#include "map/map_cuda.h"

// Stands in for the kernels in a build without CUDA.
namespace lplb::map {

void map_cuda(const Placement&, std::span<const Load>, std::span<const Load>, Index,
              std::span<const std::int32_t>, std::span<std::int32_t>) {
  refuse_without_cuda();
}
void map_cuda(const Placement&, std::span<const Load>, std::span<const Load>, Index,
              std::span<const std::int64_t>, std::span<std::int64_t>) {
  refuse_without_cuda();
}

}  // namespace lplb::map
