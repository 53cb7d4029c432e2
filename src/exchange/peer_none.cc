// SPDX-License-Identifier: MIT
#include "lplb/backend.h"
#include "lplb/device_exchange.h"

// What a build without CUDA has in place of the exchange on the device: errors that say so.
namespace lplb {
namespace {

[[noreturn]] void refuse() { throw CudaError("backend cuda: " + cuda_support().missing); }

}  // namespace

struct PeerGroup::State {};

PeerGroup PeerGroup::from_pointers(Index, std::span<void* const>, const PeerGroupOptions&) {
  refuse();
}
std::vector<PeerGroup> PeerGroup::in_process(std::span<const int>, const PeerGroupOptions&) {
  refuse();
}
PeerGroup PeerGroup::connect(Index, Index, const AllGatherBytes&, const PeerGroupOptions&,
                             const ConnectOptions&) {
  refuse();
}
std::shared_ptr<DeviceExchange> make_nccl_exchange(void*, std::size_t) { refuse(); }
std::shared_ptr<DeviceExchange> make_two_level_exchange(std::shared_ptr<DeviceExchange>,
                                                        std::shared_ptr<DeviceExchange>) {
  refuse();
}
AllGatherBytes gather_bytes_by_nccl(void*) { refuse(); }
PeerGroup::PeerGroup(std::shared_ptr<State> state) : state_(std::move(state)) {}
PeerGroup::PeerGroup(PeerGroup&&) noexcept = default;
PeerGroup& PeerGroup::operator=(PeerGroup&&) noexcept = default;
PeerGroup::~PeerGroup() = default;
Index PeerGroup::num_ranks() const { refuse(); }
Index PeerGroup::rank() const { refuse(); }
Transport PeerGroup::transport() const { refuse(); }
std::size_t PeerGroup::bytes() const { refuse(); }
Index PeerGroup::num_channels() const { refuse(); }
void PeerGroup::disconnect() { refuse(); }
std::shared_ptr<DeviceExchange> PeerGroup::channel(Index) { refuse(); }

}  // namespace lplb
