// SPDX-License-Identifier: MIT
#include "core/no_cuda.h"
#include "lplb/device_replicator.h"

// Stands in for copies on the device in a build without CUDA: every call throws CudaError.
namespace lplb {

struct DeviceReplicator::State {};

DeviceReplicator::DeviceReplicator(const Placement&, const ReplicateOptions&) {
  refuse_without_cuda();
}
DeviceReplicator::~DeviceReplicator() = default;
DeviceReplicator::DeviceReplicator(DeviceReplicator&&) noexcept = default;
DeviceReplicator& DeviceReplicator::operator=(DeviceReplicator&&) noexcept = default;
void DeviceReplicator::run(StreamHandle, const std::int32_t*, const ReplicationOutputs&) {
  refuse_without_cuda();
}
void DeviceReplicator::update_placement(StreamHandle, const Placement&) { refuse_without_cuda(); }

}  // namespace lplb
