// SPDX-License-Identifier: MIT
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/vector.h>

#include <memory>
#include <string>

#include "bindings.h"
#include "gather.h"

namespace lplb::python {
namespace {

PeerGroupOptions group_options(std::size_t max_counts, Index num_channels, double deadline) {
  PeerGroupOptions options;
  options.max_counts = max_counts;
  options.num_channels = num_channels;
  options.deadline = microseconds_of(deadline);
  return options;
}

/// A rank's memory. Only close() frees it; the caller ensures that this is safe. The destructor
/// does not: Python may run it at any time, also at exit, while peers write to the memory. Freeing
/// the memory of nccl and nvshmem is also collective, or needs libraries that are gone by then.
class PeerMemoryGroup {
 public:
  explicit PeerMemoryGroup(PeerGroup group)
      : bytes_(group.bytes()),
        transport_(transport_name(group.transport())),
        group_(std::make_unique<PeerGroup>(std::move(group))) {}
  ~PeerMemoryGroup() { (void)group_.release(); }
  PeerMemoryGroup(PeerMemoryGroup&&) noexcept = default;
  PeerMemoryGroup& operator=(PeerMemoryGroup&&) = delete;

  static PeerMemoryGroup connect(Index rank, Index num_ranks, const nb::object& gather,
                                 std::size_t max_counts, Index num_channels, double deadline,
                                 const std::string& transport, std::uintptr_t nccl_comm) {
    return without_gil([&] {
      return PeerMemoryGroup(PeerGroup::connect(rank, num_ranks, gather_of(gather),
                                                group_options(max_counts, num_channels, deadline),
                                                {transport, pointer<void>(nccl_comm)}));
    });
  }

  static PeerMemoryGroup from_pointers(Index rank, const std::vector<std::uintptr_t>& buffers,
                                       std::size_t max_counts, Index num_channels,
                                       double deadline) {
    std::vector<void*> pointers;
    for (const std::uintptr_t address : buffers) pointers.push_back(pointer<void>(address));
    return without_gil([&] {
      return PeerMemoryGroup(PeerGroup::from_pointers(
          rank, pointers, group_options(max_counts, num_channels, deadline)));
    });
  }

  std::size_t bytes() const { return bytes_; }
  const std::string& transport() const { return transport_; }
  std::shared_ptr<DeviceExchange> channel(Index index) {
    if (group_ == nullptr) throw ArgumentError("channel", "of a group that is closed");
    return group_->channel(index);
  }
  void disconnect() {
    without_gil([&] {
      if (group_ != nullptr) group_->disconnect();
    });
  }
  void close() {
    without_gil([&] { group_.reset(); });
  }

 private:
  std::size_t bytes_;
  std::string transport_;
  std::unique_ptr<PeerGroup> group_;
};

}  // namespace

void bind_exchange(nb::module_& m) {
  m.def(
      "peer_buffer_bytes",
      [](Index num_ranks, std::size_t max_counts, Index num_channels) {
        return peer_buffer_bytes(num_ranks,
                                 {.max_counts = max_counts, .num_channels = num_channels});
      },
      "num_ranks"_a, "max_counts"_a, "num_channels"_a);
  nb::class_<DeviceExchange>(m, "PeerChannel");
  nb::class_<PeerMemoryGroup>(m, "PeerGroup")
      .def_static("connect", &PeerMemoryGroup::connect, "rank"_a, "num_ranks"_a, "gather"_a,
                  "max_counts"_a, "num_channels"_a, "deadline"_a, "transport"_a, "nccl_comm"_a)
      .def_static("from_pointers", &PeerMemoryGroup::from_pointers, "rank"_a, "buffers"_a,
                  "max_counts"_a, "num_channels"_a, "deadline"_a)
      .def_prop_ro("bytes", &PeerMemoryGroup::bytes)
      .def_prop_ro("transport", &PeerMemoryGroup::transport)
      .def("channel", &PeerMemoryGroup::channel, "index"_a)
      .def("disconnect", &PeerMemoryGroup::disconnect)
      .def("close", &PeerMemoryGroup::close);
}

}  // namespace lplb::python
