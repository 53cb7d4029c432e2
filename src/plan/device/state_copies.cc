// SPDX-License-Identifier: MIT
#include <algorithm>

#include "core/check.h"
#include "plan/copies.h"
#include "plan/device/state.h"
#include "replicate/device/launch.h"
#include "replicate/options.h"

// What dynamic slots add to a planner on the device.
namespace lplb {

void DevicePlanner::State::check_copies() const {
  plan::check_dynamic_slots(options);
  if (!has_copies()) return;
  const ReplicateOptions how = plan::copy_options(options);
  replicas::check_options(placement, how);
  replicas::check_for_device(placement);
  check_argument(!device_options.checks, "checks", "is true with {} dynamic slots, expected false",
                 options.dynamic_slots);
  check_argument(device_options.shape != PlanShape::kKernels, "shape",
                 "is kKernels with {} dynamic slots, expected kAuto or kCluster",
                 options.dynamic_slots);
}

/// Finds out how much shared memory the copies take. Attempts side by side get an eighth of it.
void DevicePlanner::State::lay_out_copies(std::int64_t most_bytes) {
  const ReplicateOptions how = plan::copy_options(options);
  const replicas::CopySizes sizes = replicas::copy_sizes(placement, how);
  const replicas::CopyTables tables = replicas::copy_tables(sizes);
  const int alone = replicas::lay_out_copies(sizes, tables, 1).bytes;
  dynamic_.args = replicas::copy_args(sizes, how, tables, alone + static_cast<int>(most_bytes) / 8);
}

void DevicePlanner::State::allocate_copies() {
  Dynamic& d = dynamic_;
  const auto slots = static_cast<std::size_t>(limits_.num_dynamic());
  d.slots.reserve(4 * slots);
  d.state = {d.slots.get(), d.slots.get() + slots, d.slots.get() + 2 * slots,
             d.slots.get() + 3 * slots};
  const auto bytes = static_cast<std::size_t>(d.args.layout.image_bytes);
  d.image.reserve(bytes);
  d.staging.reserve(bytes);
  d.args.image = d.image.get();
  const device::Stream stream;
  LPLB_CUDA_CHECK(
      cudaMemsetAsync(d.slots.get(), 0xFF, 4 * slots * sizeof(std::int32_t), stream.get()));
  LPLB_CUDA_CHECK(cudaStreamSynchronize(stream.get()));
}

}  // namespace lplb
