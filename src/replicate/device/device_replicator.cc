// SPDX-License-Identifier: MIT
#include "lplb/device_replicator.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "core/check.h"
#include "core/device.h"
#include "core/made.h"
#include "replicate/device/launch.h"
#include "replicate/options.h"

namespace lplb {

struct DeviceReplicator::State {
  State(const Placement& placement, const ReplicateOptions& options,
        const replicas::CopySizes& sizes);

  void put(const Placement& placement, cudaStream_t stream);

  replicas::CopyArgs args;

 private:
  device::Array<unsigned char> image_;
  device::Staging<unsigned char> staging_;
  std::vector<unsigned char> bytes_;
};

DeviceReplicator::State::State(const Placement& placement, const ReplicateOptions& options,
                               const replicas::CopySizes& sizes)
    : args(replicas::copy_args(sizes, options, replicas::copy_tables(sizes),
                               replicas::most_copy_bytes())) {
  const int most = replicas::most_copy_bytes();
  check_argument(args.layout.bytes <= most, "placement",
                 "of {} slots and {} dynamic ones needs {} bytes of shared memory, expected at "
                 "most {}",
                 sizes.num_main(), sizes.num_dynamic(), args.layout.bytes, most);
  replicas::prepare_copies(sizes);
  const auto bytes = static_cast<std::size_t>(args.layout.image_bytes);
  image_.reserve(bytes);
  staging_.reserve(bytes);
  args.image = image_.get();
  const device::Stream stream;
  put(placement, stream.get());
  LPLB_CUDA_CHECK(cudaStreamSynchronize(stream.get()));
}

void DeviceReplicator::State::put(const Placement& placement, cudaStream_t stream) {
  replicas::write_copy_image(placement, args.sizes, args.layout, bytes_);
  unsigned char* const staged = staging_.next();
  std::memcpy(staged, bytes_.data(), bytes_.size());
  LPLB_CUDA_CHECK(
      cudaMemcpyAsync(image_.get(), staged, bytes_.size(), cudaMemcpyHostToDevice, stream));
  staging_.sent(stream);
}

DeviceReplicator::DeviceReplicator(const Placement& placement, const ReplicateOptions& options) {
  check_maps(placement, "placement");
  replicas::check_options(placement, options);
  replicas::check_for_device(placement);
  device::require();
  state_ = std::make_unique<State>(placement, options, replicas::copy_sizes(placement, options));
}
DeviceReplicator::~DeviceReplicator() = default;
DeviceReplicator::DeviceReplicator(DeviceReplicator&&) noexcept = default;
DeviceReplicator& DeviceReplicator::operator=(DeviceReplicator&&) noexcept = default;

void DeviceReplicator::run(StreamHandle stream, const std::int32_t* load,
                           const ReplicationOutputs& outputs) {
  check_argument(load != nullptr, "load", "is null, expected {} loads",
                 state_->args.sizes.num_logical);
  device::check_aligned(load, 4, "load");
  device::check_aligned(outputs.slot_expert, 4, "slot_expert");
  device::check_aligned(outputs.slot_source, 4, "slot_source");
  device::check_aligned(outputs.physical_load, 4, "physical_load");
  device::check_aligned(outputs.rank_load, 4, "rank_load");
  device::check_aligned(outputs.in_proof, 4, "in_proof");
  device::check_aligned(outputs.summary, 4, "summary");
  replicas::CopyArgs args = state_->args;
  args.load = load;
  args.out = outputs;
  replicas::launch_copies(args, static_cast<cudaStream_t>(stream));
}

void DeviceReplicator::update_placement(StreamHandle stream, const Placement& placement) {
  check_maps(placement, "placement");
  const replicas::CopySizes& sizes = state_->args.sizes;
  check_argument(placement.num_ranks == sizes.num_ranks &&
                     placement.num_logical_experts == sizes.num_logical &&
                     placement.slots_per_rank() == sizes.main_slots,
                 "placement",
                 "has {} ranks, {} logical experts and {} slots a rank, expected {}, {} and {}",
                 placement.num_ranks, placement.num_logical_experts, placement.slots_per_rank(),
                 sizes.num_ranks, sizes.num_logical, sizes.main_slots);
  if (!sizes.is_general()) replicas::check_speeds(placement);
  device::check_no_capture(static_cast<cudaStream_t>(stream), "an update");
  state_->put(placement, static_cast<cudaStream_t>(stream));
}

}  // namespace lplb
