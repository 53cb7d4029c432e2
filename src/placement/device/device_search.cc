// SPDX-License-Identifier: MIT
#include "placement/device/device_search.h"

#include <algorithm>
#include <cmath>

#include "core/check.h"
#include "core/device.h"
#include "core/host_device.h"
#include "placement/device/launch.h"

namespace lplb::placement {
namespace {

constexpr double kLongest = 1e9;  // seconds; more is no limit

}  // namespace

std::vector<FoundLayer> search_on_device(const HomesShape& shape, std::span<const LayerJob> jobs,
                                         double max_seconds) {
  device::require();
  if (jobs.empty()) return {};
  const PackedJobs packed(shape, jobs, kSearchThreads / device::kWarpSize);
  SearchArgs args = packed.args();
  const int most = most_search_bytes();
  check_argument(
      args.at.bytes <= most, "backend",
      "cuda needs {} bytes of a block's memory for {} batches of {} experts in {} slots, "
      "and has {}",
      args.at.bytes, args.sizes.num_batches, args.sizes.num_logical, args.sizes.num_slots(), most);
  prepare_search(args);
  const int num_blocks = std::min(args.num_jobs, most_search_blocks(args));
  const auto blocks = static_cast<std::size_t>(num_blocks);
  const auto candidates = blocks * static_cast<std::size_t>(args.most_candidates);
  const std::vector<unsigned char>& image = packed.image();
  std::vector<unsigned char> results(packed.result_bytes());
  const device::Array<unsigned char> image_on_device(image.size());
  const device::Array<unsigned char> results_on_device(results.size());
  const device::Array<SearchCandidate> raw(candidates), list(candidates);
  const device::Array<unsigned> found(blocks * packed.found_words());
  args.image = image_on_device.get();
  args.results = results_on_device.get();
  args.raw = raw.get();
  args.list = list.get();
  args.found = found.get();
  if (max_seconds < kLongest) {
    args.nanoseconds = static_cast<std::int64_t>(std::max(0.0, max_seconds) * 1e9);
  }
  const device::Stream stream;
  LPLB_CUDA_CHECK(cudaMemcpyAsync(image_on_device.get(), image.data(), image.size(),
                                  cudaMemcpyHostToDevice, stream.get()));
  launch_search(args, num_blocks, stream.get());
  LPLB_CUDA_CHECK(cudaMemcpyAsync(results.data(), results_on_device.get(), results.size(),
                                  cudaMemcpyDeviceToHost, stream.get()));
  LPLB_CUDA_CHECK(cudaStreamSynchronize(stream.get()));
  return packed.unpack(results);
}

}  // namespace lplb::placement
