// SPDX-License-Identifier: MIT
#include <algorithm>

#include "core/check.h"
#include "core/device.h"
#include "exchange/peer/memory.h"

namespace lplb {
namespace {

/// Restores the current device at the end of a scope.
class DeviceScope {
 public:
  DeviceScope() { LPLB_CUDA_CHECK(cudaGetDevice(&before_)); }
  ~DeviceScope() { (void)cudaSetDevice(before_); }
  DeviceScope(const DeviceScope&) = delete;
  DeviceScope& operator=(const DeviceScope&) = delete;

 private:
  int before_ = 0;
};

/// The buffers of all ranks. The groups of the process share them.
class ProcessMemory : public exchange::PeerMemory {
 public:
  explicit ProcessMemory(std::shared_ptr<std::vector<device::Array<unsigned char>>> owned)
      : owned_(std::move(owned)) {
    for (const auto& array : *owned_) buffers_.push_back(array.get());
    bytes_ = owned_->front().capacity();
  }

 private:
  std::shared_ptr<std::vector<device::Array<unsigned char>>> owned_;
};

void let_read(int device, int other) {
  if (device == other) return;
  int can = 0;
  LPLB_CUDA_CHECK(cudaDeviceCanAccessPeer(&can, device, other));
  check_argument(can != 0, "devices", "{} has no access to the memory of {}", device, other);
  const cudaError_t status = cudaDeviceEnablePeerAccess(other, 0);
  if (status == cudaErrorPeerAccessAlreadyEnabled) {
    (void)cudaGetLastError();
    return;
  }
  LPLB_CUDA_CHECK(status);
}

}  // namespace

std::vector<std::unique_ptr<exchange::PeerMemory>> exchange::allocate_in_process(
    std::span<const int> devices, std::size_t bytes, const PrepareMemory& prepare) {
  device::require();
  int count = 0;
  LPLB_CUDA_CHECK(cudaGetDeviceCount(&count));
  const DeviceScope scope;
  auto owned = std::make_shared<std::vector<device::Array<unsigned char>>>();
  for (const int device : devices) {
    check_argument(device >= 0 && device < count, "devices", "{} is not between 0 and {}", device,
                   count - 1);
  }
  for (const int device : devices) {
    LPLB_CUDA_CHECK(cudaSetDevice(device));
    for (const int other : devices) let_read(device, other);
    LPLB_CUDA_CHECK(cudaMemset(owned->emplace_back(bytes).get(), 0, bytes));
    LPLB_CUDA_CHECK(cudaDeviceSynchronize());
  }
  std::vector<std::unique_ptr<PeerMemory>> all;
  for (std::size_t i = 0; i < devices.size(); ++i) {
    LPLB_CUDA_CHECK(cudaSetDevice(devices[i]));
    all.push_back(std::make_unique<ProcessMemory>(owned));
    prepare(static_cast<Index>(i), *all.back());
  }
  return all;
}

std::vector<PeerGroup> PeerGroup::in_process(std::span<const int> devices,
                                             const PeerGroupOptions& options) {
  const auto num_ranks = static_cast<Index>(std::min<std::size_t>(devices.size(), kMaxRanks + 1));
  exchange::check_group(num_ranks, 0, options);
  auto memories = exchange::allocate_in_process(devices, peer_buffer_bytes(num_ranks, options),
                                                exchange::prepare_buffer);
  std::vector<PeerGroup> groups;
  for (Index rank = 0; rank < num_ranks; ++rank) {
    auto& memory = memories[static_cast<std::size_t>(rank)];
    groups.push_back(
        exchange::make_peer_group(rank, Transport::kProcess, std::move(memory), options));
  }
  return groups;
}

}  // namespace lplb
