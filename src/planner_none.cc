// SPDX-License-Identifier: MIT
#include <string>

#include "count/count_cuda.h"
#include "lplb/backend.h"
#include "map/map_cuda.h"

// What a build without CUDA has in place of the kernels: errors that say so.
namespace lplb {
namespace {

[[noreturn]] void refuse() { throw CudaError("backend cuda: " + cuda_support().missing); }

}  // namespace

namespace count {

CountStatus count_cuda(std::span<const std::int32_t>, std::span<Load>) { refuse(); }
CountStatus count_cuda(std::span<const std::int64_t>, std::span<Load>) { refuse(); }

}  // namespace count

namespace map {

void map_cuda(const Placement&, std::span<const Load>, std::span<const Load>, Index,
              std::span<const std::int32_t>, std::span<std::int32_t>) {
  refuse();
}
void map_cuda(const Placement&, std::span<const Load>, std::span<const Load>, Index,
              std::span<const std::int64_t>, std::span<std::int64_t>) {
  refuse();
}

}  // namespace map
}  // namespace lplb
