// SPDX-License-Identifier: MIT
#include "core/no_cuda.h"
#include "count/count_cuda.h"
#include "lplb/device_counter.h"

// Stands in for the counters on the device in a build without CUDA: every call throws CudaError.
namespace lplb {
namespace count {

CountStatus count_cuda(std::span<const std::int32_t>, std::span<Load>) { refuse_without_cuda(); }
CountStatus count_cuda(std::span<const std::int64_t>, std::span<Load>) { refuse_without_cuda(); }

}  // namespace count

struct DeviceCounter::State {};

DeviceCounter::DeviceCounter(const Placement&, Index, const LoadHistoryOptions&, Singles) {
  refuse_without_cuda();
}
DeviceCounter::~DeviceCounter() = default;
DeviceCounter::DeviceCounter(DeviceCounter&&) noexcept = default;
DeviceCounter& DeviceCounter::operator=(DeviceCounter&&) noexcept = default;
void DeviceCounter::count(StreamHandle, const DeviceBatch&, const CountOutputs&) {
  refuse_without_cuda();
}
void DeviceCounter::update_placement(StreamHandle, const Placement&) { refuse_without_cuda(); }
const double* DeviceCounter::history() const { refuse_without_cuda(); }
void DeviceCounter::clear_history(StreamHandle) { refuse_without_cuda(); }

}  // namespace lplb
