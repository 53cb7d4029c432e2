// SPDX-License-Identifier: MIT
#include "core/no_cuda.h"
#include "placement/device/device_search.h"

// Stands in for the search on the device in a build without CUDA.
namespace lplb::placement {

std::vector<FoundLayer> search_on_device(const HomesShape&, std::span<const LayerJob>, double) {
  refuse_without_cuda();
}

}  // namespace lplb::placement
