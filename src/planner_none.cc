// SPDX-License-Identifier: MIT
#include <string>

#include "count/count_cuda.h"
#include "lplb/backend.h"
#include "lplb/device_counter.h"
#include "lplb/device_planner.h"
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

struct DevicePlanner::State {};

DevicePlanner::DevicePlanner(const Placement&, Index, const PlannerOptions&,
                             const DevicePlannerOptions&) {
  refuse();
}
DevicePlanner::~DevicePlanner() = default;
DevicePlanner::DevicePlanner(DevicePlanner&&) noexcept = default;
DevicePlanner& DevicePlanner::operator=(DevicePlanner&&) noexcept = default;
void DevicePlanner::run(StreamHandle, const DeviceBatch&) { refuse(); }
void DevicePlanner::join(StreamHandle) { refuse(); }
void DevicePlanner::count(StreamHandle, const DeviceBatch&, std::int32_t*) { refuse(); }
void DevicePlanner::check(StreamHandle, const DeviceBatch&) { refuse(); }
void DevicePlanner::write_quotas(StreamHandle, const std::int32_t*, const QuotaOutputs&) {
  refuse();
}
void DevicePlanner::update_placement(const Placement&, StreamHandle) { refuse(); }
DevicePlannerStats DevicePlanner::stats(StreamHandle) { refuse(); }
std::optional<DevicePlannerStats> DevicePlanner::poll_stats(StreamHandle) { refuse(); }
const Placement& DevicePlanner::placement() const { refuse(); }
const PackedLayout& DevicePlanner::layout() const { refuse(); }
PlanShape DevicePlanner::shape() const { refuse(); }
int DevicePlanner::num_blocks(std::int64_t) const { refuse(); }

struct DeviceCounter::State {};

DeviceCounter::DeviceCounter(const Placement&, Index, const LoadHistoryOptions&) { refuse(); }
DeviceCounter::~DeviceCounter() = default;
DeviceCounter::DeviceCounter(DeviceCounter&&) noexcept = default;
DeviceCounter& DeviceCounter::operator=(DeviceCounter&&) noexcept = default;
void DeviceCounter::count(StreamHandle, const DeviceBatch&, const CountOutputs&) { refuse(); }
void DeviceCounter::update_placement(const Placement&, StreamHandle) { refuse(); }
const double* DeviceCounter::history() const { refuse(); }
void DeviceCounter::clear_history(StreamHandle) { refuse(); }

}  // namespace lplb
