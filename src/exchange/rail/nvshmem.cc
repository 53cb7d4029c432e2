// SPDX-License-Identifier: MIT
#include "exchange/rail/nvshmem.h"

#include <utility>

#include "core/device.h"
#include "core/format.h"
#include "exchange/libraries/nvshmem_world.h"
#include "exchange/rail/exchange.h"
#include "lplb/error.h"

// A rail by NVSHMEM's puts with signal. As for a PeerGroup, the host library, which is looked up at
// run time, starts the world. Then the kernel joins it.
namespace lplb {
namespace {

class NvshmemRail : public exchange::RailMemory {
 public:
  NvshmemRail(const RailOptions& options, const DeviceExchange* domain_exchange)
      : options_(options), rank_(exchange::rank_of(options, domain_exchange)) {}
  /// Collective. NOTE: if any rank has no memory, the others never free theirs, because freeing it
  /// is collective too.
  ~NvshmemRail() override {
    if (network_.own != nullptr && is_settled_) exchange::nvshmem_release(network_.own);
  }
  NvshmemRail(const NvshmemRail&) = delete;
  NvshmemRail& operator=(const NvshmemRail&) = delete;

  exchange::Agreement::Bytes offer() override {
    device::require();
    check_version();
    return exchange::offer_nvshmem(rank_.rank);
  }

  void accept(const std::vector<exchange::Agreement::Bytes>& offers) override {
    exchange::start_nvshmem(rank_.rank, rank_.num_ranks, offers);
    exchange::join_nvshmem();
    const exchange::NvshmemPe pe = exchange::nvshmem_pe();
    if (pe.count == rank_.num_ranks && pe.index == rank_.rank) {
      network_.first_pe = rank_.rank_in_domain();
      network_.pe_stride = rank_.domain_size;
    } else if (pe.count == options_.num_domains && pe.index == options_.domain) {
      network_.first_pe = 0;
      network_.pe_stride = 1;
    } else {
      throw ExchangeError(formatted(
          "NVSHMEM runs as PE {} of {}, expected {} of {} (all ranks) or {} of {} (the rail)",
          pe.index, pe.count, rank_.rank, rank_.num_ranks, options_.domain, options_.num_domains));
    }
    network_.own =
        static_cast<unsigned char*>(exchange::nvshmem_allocate(rail_buffer_bytes(options_)));
    network_.signals = exchange::layout_of(options_).signals();
  }
  void settle() override { is_settled_ = true; }

  unsigned char* own() const override { return network_.own; }
  void prepare() const override {}  // exchange::join_nvshmem() has loaded the kernel
  void launch(const exchange::RailArgs& args, StreamHandle stream) const override {
    exchange::launch_nvshmem_rail(args, network_, stream);
  }

 private:
  /// NOTE: with a version that does not fit, exchange::join_nvshmem() would end the process.
  static void check_version() {
    int major = 0;
    int minor = 0;
    int patch = 0;
    exchange::nvshmem().get<void(int*, int*, int*)>("nvshmemx_vendor_get_version_info")(
        &major, &minor, &patch);
    const exchange::NvshmemVersion here = exchange::nvshmem_kernel_version();
    if (major == here.major && minor >= here.minor) return;
    throw ExchangeError(formatted(
        "NVSHMEM is {}.{}.{}, and the kernel was built with {}.{}.{}: expected the same major "
        "version, and not an older one",
        major, minor, patch, here.major, here.minor, here.patch));
  }

  const RailOptions options_;
  const exchange::RailRank rank_;
  exchange::NvshmemRailArgs network_{};
  bool is_settled_ = false;
};

}  // namespace

std::shared_ptr<DeviceExchange> make_nvshmem_exchange(
    const RailOptions& options, std::shared_ptr<DeviceExchange> domain_exchange,
    const AllGatherBytes& all_gather) {
  exchange::check_rail(options, domain_exchange.get(), all_gather);
  auto memory = std::make_unique<NvshmemRail>(options, domain_exchange.get());
  return exchange::connect_rail(options, std::move(domain_exchange), all_gather, std::move(memory));
}

}  // namespace lplb
