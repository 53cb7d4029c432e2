// SPDX-License-Identifier: MIT
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include <memory>
#include <string>

#include "bindings.h"
#include "gather.h"
#include "lplb/device_weights.h"

namespace lplb::python {
namespace {

using Sizes = std::vector<std::size_t>;

/// What all ranks give in the same way.
struct WeightSettings {
  WeightSettings(const std::vector<const Placement*>& placements, const Sizes& tensor_bytes,
                 const Sizes& gradient_sizes, bool is_bfloat16, Index dynamic_slots,
                 Index slot_sets, Index num_sms, Index num_buffers, double deadline)
      : layout{tensor_bytes, gradient_sizes,
               is_bfloat16 ? GradientType::kBFloat16 : GradientType::kFloat32},
        options{.dynamic_slots = dynamic_slots,
                .slot_sets = slot_sets,
                .num_sms = num_sms,
                .num_buffers = num_buffers,
                .deadline = microseconds_of(deadline)} {
    for (const Placement* p : placements) layers.push_back(*p);
  }

  std::vector<Placement> layers;
  DeviceWeightLayout layout;
  DeviceWeightOptions options;
};

/// A rank's buffer. As with PeerMemoryGroup, only close() frees it.
class DeviceWeights {
 public:
  explicit DeviceWeights(std::unique_ptr<DeviceWeightExchange> weights)
      : weights_(std::move(weights)) {}
  ~DeviceWeights() { (void)weights_.release(); }
  DeviceWeights(DeviceWeights&&) noexcept = default;
  DeviceWeights& operator=(DeviceWeights&&) = delete;

  static std::unique_ptr<DeviceWeights> connect(const WeightSettings& s, Index rank,
                                                Index num_members, const nb::object& gather,
                                                const std::string& transport,
                                                std::uintptr_t nccl_comm) {
    return without_gil([&] {
      return std::make_unique<DeviceWeights>(
          DeviceWeightExchange::connect(rank, num_members, gather_of(gather), s.layers, s.layout,
                                        s.options, {transport, pointer<void>(nccl_comm)}));
    });
  }
  static std::unique_ptr<DeviceWeights> from_pointers(const WeightSettings& s, Index rank,
                                                      const std::vector<std::uintptr_t>& pointers) {
    std::vector<void*> buffers;
    buffers.reserve(pointers.size());
    for (const std::uintptr_t address : pointers) buffers.push_back(pointer<void>(address));
    return without_gil([&] {
      return std::make_unique<DeviceWeights>(
          DeviceWeightExchange::from_pointers(rank, buffers, s.layers, s.layout, s.options));
    });
  }
  static std::vector<std::unique_ptr<DeviceWeights>> in_process(const WeightSettings& s,
                                                                const std::vector<int>& devices) {
    return without_gil([&] {
      std::vector<std::unique_ptr<DeviceWeights>> all;
      for (auto& one : DeviceWeightExchange::in_process(devices, s.layers, s.layout, s.options)) {
        all.push_back(std::make_unique<DeviceWeights>(std::move(one)));
      }
      return all;
    });
  }

  DeviceWeightExchange& get() const {
    if (weights_ == nullptr) throw ArgumentError("buffers", "are closed");
    return *weights_;
  }
  std::uintptr_t main(Index layer, Index tensor) const {
    return reinterpret_cast<std::uintptr_t>(get().main(layer, tensor));
  }
  std::uintptr_t dynamic(Index layer, Index tensor) const {
    return reinterpret_cast<std::uintptr_t>(get().dynamic(layer, tensor));
  }
  std::uintptr_t dynamic_gradients(Index layer, Index tensor) const {
    return reinterpret_cast<std::uintptr_t>(get().dynamic_gradients(layer, tensor));
  }
  std::size_t stride(Index tensor) const { return get().stride(tensor); }
  std::string transport() const { return transport_name(get().transport()); }
  std::size_t bytes() const { return get().bytes(); }

  void fetch(std::uintptr_t stream, Index layer, std::uintptr_t slot_expert,
             std::uintptr_t slot_source, std::uintptr_t is_held, std::uintptr_t outcome) {
    get().fetch(pointer<void>(stream), layer,
                {.slot_expert = pointer<const std::int32_t>(slot_expert),
                 .slot_source = pointer<const std::int32_t>(slot_source),
                 .is_held = pointer<std::int32_t>(is_held),
                 .outcome = pointer<std::int32_t>(outcome)});
  }
  void update(std::uintptr_t stream, Index layer, Index first_slot, Index num_slots) {
    get().update(pointer<void>(stream), layer, first_slot, num_slots);
  }
  void reduce_gradients(std::uintptr_t stream, Index layer,
                        const std::vector<std::uintptr_t>& main_gradients, std::uintptr_t outcome) {
    std::vector<void*> to;
    to.reserve(main_gradients.size());
    for (const std::uintptr_t address : main_gradients) to.push_back(pointer<void>(address));
    get().reduce_gradients(pointer<void>(stream), layer, to, pointer<std::int32_t>(outcome));
  }
  Facts stats(std::uintptr_t stream) {
    const DeviceWeightStats s = without_gil([&] { return get().stats(pointer<void>(stream)); });
    Facts d;
    d["calls"] = s.calls;
    d["complete"] = s.complete();
    d["refused"] = s.refused;
    d["mismatched"] = s.mismatched;
    d["timed_out"] = s.timed_out;
    d["behind"] = s.behind;
    d["failed"] = s.failed;
    d["copied"] = s.copied;
    d["skipped"] = s.skipped;
    d["bytes"] = s.bytes;
    d["last_missing"] = s.last_missing;
    return d;
  }
  void disconnect() {
    without_gil([&] {
      if (weights_ != nullptr) weights_->disconnect();
    });
  }
  void close() {
    without_gil([&] { weights_.reset(); });
  }

 private:
  std::unique_ptr<DeviceWeightExchange> weights_;
};

}  // namespace

void bind_weights(nb::module_& m) {
  nb::class_<WeightSettings>(m, "WeightSettings")
      .def(nb::init<const std::vector<const Placement*>&, const Sizes&, const Sizes&, bool, Index,
                    Index, Index, Index, double>(),
           "placements"_a, "tensor_bytes"_a, "gradient_sizes"_a, "is_bfloat16"_a, "dynamic_slots"_a,
           "slot_sets"_a, "num_sms"_a, "num_buffers"_a, "deadline"_a)
      .def("buffer_bytes", [](const WeightSettings& s) {
        return DeviceWeightExchange::buffer_bytes(s.layers, s.layout, s.options);
      });
  nb::class_<DeviceWeights>(m, "DeviceWeights")
      .def_static("connect", &DeviceWeights::connect, "settings"_a, "rank"_a, "num_members"_a,
                  "gather"_a, "transport"_a, "nccl_comm"_a)
      .def_static("from_pointers", &DeviceWeights::from_pointers, "settings"_a, "rank"_a,
                  "pointers"_a)
      .def_static("in_process", &DeviceWeights::in_process, "settings"_a, "devices"_a)
      .def("main", &DeviceWeights::main, "layer"_a, "tensor"_a)
      .def("dynamic", &DeviceWeights::dynamic, "layer"_a, "tensor"_a)
      .def("dynamic_gradients", &DeviceWeights::dynamic_gradients, "layer"_a, "tensor"_a)
      .def("stride", &DeviceWeights::stride, "tensor"_a)
      .def_prop_ro("transport", &DeviceWeights::transport)
      .def_prop_ro("bytes", &DeviceWeights::bytes)
      .def("fetch", &DeviceWeights::fetch, "stream"_a, "layer"_a, "slot_expert"_a, "slot_source"_a,
           "is_held"_a, "outcome"_a)
      .def("update", &DeviceWeights::update, "stream"_a, "layer"_a, "first_slot"_a, "num_slots"_a)
      .def("reduce_gradients", &DeviceWeights::reduce_gradients, "stream"_a, "layer"_a,
           "main_gradients"_a, "outcome"_a)
      .def("stats", &DeviceWeights::stats, "stream"_a)
      .def("disconnect", &DeviceWeights::disconnect)
      .def("close", &DeviceWeights::close);
}

}  // namespace lplb::python
