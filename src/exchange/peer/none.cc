// SPDX-License-Identifier: MIT
#include "core/no_cuda.h"
#include "lplb/device_exchange.h"

// Replaces the exchange on the device in a build without CUDA: every call throws.
namespace lplb {

struct PeerGroup::State {};

PeerGroup PeerGroup::from_pointers(Index, std::span<void* const>, const PeerGroupOptions&) {
  refuse_without_cuda();
}
std::vector<PeerGroup> PeerGroup::in_process(std::span<const int>, const PeerGroupOptions&) {
  refuse_without_cuda();
}
PeerGroup PeerGroup::connect(Index, Index, const AllGatherBytes&, const PeerGroupOptions&,
                             const ConnectOptions&) {
  refuse_without_cuda();
}
std::shared_ptr<DeviceExchange> make_nccl_exchange(void*, std::size_t) { refuse_without_cuda(); }
AllGatherBytes gather_bytes_by_nccl(void*) { refuse_without_cuda(); }
PeerGroup::PeerGroup(std::shared_ptr<State> state) : state_(std::move(state)) {}
PeerGroup::PeerGroup(PeerGroup&&) noexcept = default;
PeerGroup& PeerGroup::operator=(PeerGroup&&) noexcept = default;
PeerGroup::~PeerGroup() = default;
Index PeerGroup::num_ranks() const { refuse_without_cuda(); }
Index PeerGroup::rank() const { refuse_without_cuda(); }
Transport PeerGroup::transport() const { refuse_without_cuda(); }
std::size_t PeerGroup::bytes() const { refuse_without_cuda(); }
Index PeerGroup::num_channels() const { refuse_without_cuda(); }
void PeerGroup::disconnect() { refuse_without_cuda(); }
std::shared_ptr<DeviceExchange> PeerGroup::channel(Index) { refuse_without_cuda(); }

}  // namespace lplb
