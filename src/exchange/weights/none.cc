// SPDX-License-Identifier: MIT
#include "core/no_cuda.h"
#include "lplb/device_weights.h"

// Replaces the exchange of weights on the device in a build without CUDA: every call throws.
namespace lplb {

struct DeviceWeightExchange::State {};

std::size_t DeviceWeightExchange::buffer_bytes(std::span<const Placement>,
                                               const DeviceWeightLayout&,
                                               const DeviceWeightOptions&) {
  refuse_without_cuda();
}
std::unique_ptr<DeviceWeightExchange> DeviceWeightExchange::connect(
    Index, Index, const AllGatherBytes&, std::span<const Placement>, const DeviceWeightLayout&,
    const DeviceWeightOptions&, const ConnectOptions&) {
  refuse_without_cuda();
}
std::vector<std::unique_ptr<DeviceWeightExchange>> DeviceWeightExchange::in_process(
    std::span<const int>, std::span<const Placement>, const DeviceWeightLayout&,
    const DeviceWeightOptions&) {
  refuse_without_cuda();
}
std::unique_ptr<DeviceWeightExchange> DeviceWeightExchange::from_pointers(
    Index, std::span<void* const>, std::span<const Placement>, const DeviceWeightLayout&,
    const DeviceWeightOptions&) {
  refuse_without_cuda();
}
DeviceWeightExchange::DeviceWeightExchange(std::unique_ptr<State> state)
    : state_(std::move(state)) {}
DeviceWeightExchange::~DeviceWeightExchange() = default;
void* DeviceWeightExchange::main(Index, Index) const { refuse_without_cuda(); }
void* DeviceWeightExchange::dynamic(Index, Index) const { refuse_without_cuda(); }
std::size_t DeviceWeightExchange::stride(Index) const { refuse_without_cuda(); }
void* DeviceWeightExchange::dynamic_gradients(Index, Index) const { refuse_without_cuda(); }
Transport DeviceWeightExchange::transport() const { refuse_without_cuda(); }
std::size_t DeviceWeightExchange::bytes() const { refuse_without_cuda(); }
void DeviceWeightExchange::disconnect() { refuse_without_cuda(); }
void DeviceWeightExchange::fetch(StreamHandle, Index, const DeviceFetch&) { refuse_without_cuda(); }
void DeviceWeightExchange::update(StreamHandle, Index, Index, Index) { refuse_without_cuda(); }
void DeviceWeightExchange::reduce_gradients(StreamHandle, Index, std::span<void* const>,
                                            std::int32_t*) {
  refuse_without_cuda();
}
DeviceWeightStats DeviceWeightExchange::stats(StreamHandle) { refuse_without_cuda(); }

}  // namespace lplb
