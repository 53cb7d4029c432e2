// SPDX-License-Identifier: MIT
#include "core/no_cuda.h"
#include "lplb/device_planner.h"

// Stands in for the planner on the device in a build without CUDA.
namespace lplb {

struct DevicePlanner::State {};

DevicePlanner::DevicePlanner(const Placement&, Index, const PlannerOptions&,
                             const DevicePlannerOptions&) {
  refuse_without_cuda();
}
DevicePlanner::~DevicePlanner() = default;
DevicePlanner::DevicePlanner(DevicePlanner&&) noexcept = default;
DevicePlanner& DevicePlanner::operator=(DevicePlanner&&) noexcept = default;
void DevicePlanner::run(StreamHandle, const DeviceBatch&) { refuse_without_cuda(); }
void DevicePlanner::join(StreamHandle) { refuse_without_cuda(); }
void DevicePlanner::count(StreamHandle, const DeviceBatch&, std::int32_t*) {
  refuse_without_cuda();
}
void DevicePlanner::check(StreamHandle, const DeviceBatch&) { refuse_without_cuda(); }
void DevicePlanner::write_quotas(StreamHandle, const std::int32_t*, const QuotaOutputs&) {
  refuse_without_cuda();
}
void DevicePlanner::update_placement(StreamHandle, const Placement&) { refuse_without_cuda(); }
DevicePlannerStats DevicePlanner::stats(StreamHandle) { refuse_without_cuda(); }
std::optional<DevicePlannerStats> DevicePlanner::poll_stats(StreamHandle) { refuse_without_cuda(); }
DeviceCopies DevicePlanner::copies() const { refuse_without_cuda(); }
const Placement& DevicePlanner::placement() const { refuse_without_cuda(); }
const PackedLayout& DevicePlanner::layout() const { refuse_without_cuda(); }
PlanShape DevicePlanner::shape() const { refuse_without_cuda(); }
int DevicePlanner::num_blocks(std::int64_t) const { refuse_without_cuda(); }

}  // namespace lplb
