// SPDX-License-Identifier: MIT
#include "exchange/rail/gin.h"

#include <utility>

#include "core/check.h"
#include "core/device.h"
#include "core/format.h"
#include "exchange/libraries/nccl_library.h"
#include "exchange/libraries/shared_library.h"
#include "exchange/rail/exchange.h"

// A rail by NCCL's GPU-initiated networking (GIN). It puts lines into a window, each put with a
// signal. NCCL is the library that the process has loaded.
namespace lplb {
namespace {

using CreateDevComm = ncclResult_t(ncclComm_t, const ncclDevCommRequirements_t*, ncclDevComm_t*);
using DestroyDevComm = ncclResult_t(ncclComm_t, const ncclDevComm_t*);

class GinRail : public exchange::RailMemory {
 public:
  GinRail(const RailOptions& options, const DeviceExchange* domain_exchange, void* comm)
      : options_(options),
        rank_(exchange::rank_of(options, domain_exchange)),
        comm_(static_cast<ncclComm_t>(comm)),
        nccl_(exchange::NcclLibrary::get()),
        library_("libnccl.so.2") {}
  ~GinRail() override {
    if (has_comm_) {
      (void)library_.get<DestroyDevComm>("ncclDevCommDestroy")(comm_, &network_.comm);
    }
    if (network_.window != nullptr) (void)nccl_.window_deregister(comm_, network_.window);
    if (own_ != nullptr) (void)nccl_.mem_free(own_);
  }
  GinRail(const GinRail&) = delete;
  GinRail& operator=(const GinRail&) = delete;

  exchange::Agreement::Bytes offer() override {
    device::require();
    if (!nccl_.missing.empty()) throw ExchangeError("NCCL: " + nccl_.missing);
    if (nccl_.version != NCCL_VERSION_CODE) {
      throw ExchangeError(formatted("NCCL is {}, and the kernel was built with {}.{}.{}",
                                    nccl_.version_text(), NCCL_MAJOR, NCCL_MINOR, NCCL_PATCH));
    }
    const std::string other = nccl_.find_other_rank(comm_, rank_.rank, rank_.num_ranks);
    if (!other.empty()) throw ExchangeError(other);
    bytes_ = rail_buffer_bytes(options_);
    own_ = nccl_.allocate(&bytes_);
    return {};
  }

  void accept(const std::vector<exchange::Agreement::Bytes>&) override {
    network_.window = static_cast<ncclWindow_t>(nccl_.register_memory(comm_, own_, bytes_));
#if NCCL_VERSION_CODE >= NCCL_VERSION(2, 29, 7)
    ncclDevCommRequirements_t wanted = NCCL_DEV_COMM_REQUIREMENTS_INITIALIZER;
    wanted.ginConnectionType = NCCL_GIN_CONNECTION_FULL;
#else
    ncclDevCommRequirements_t wanted{};
    wanted.ginForceEnable = true;
#endif
    wanted.ginContextCount = 1;
    wanted.ginSignalCount = options_.num_domains;
    nccl_.check(library_.get<CreateDevComm>("ncclDevCommCreate")(comm_, &wanted, &network_.comm),
                "ncclDevCommCreate with GIN");
    has_comm_ = true;
    network_.first_rank = rank_.rank_in_domain();
    network_.rank_stride = rank_.domain_size;
  }

  unsigned char* own() const override { return static_cast<unsigned char*>(own_); }
  void prepare() const override { exchange::prepare_gin_rail(); }
  void launch(const exchange::RailArgs& args, StreamHandle stream) const override {
    exchange::launch_gin_rail(args, network_, stream);
  }

 private:
  const RailOptions options_;
  const exchange::RailRank rank_;
  const ncclComm_t comm_;
  const exchange::NcclLibrary& nccl_;
  const exchange::SharedLibrary library_;
  std::size_t bytes_ = 0;
  void* own_ = nullptr;
  exchange::GinRailArgs network_{};
  bool has_comm_ = false;
};

}  // namespace

std::shared_ptr<DeviceExchange> make_gin_exchange(const RailOptions& options,
                                                  std::shared_ptr<DeviceExchange> domain_exchange,
                                                  const AllGatherBytes& all_gather,
                                                  void* nccl_comm) {
  exchange::check_rail(options, domain_exchange.get(), all_gather);
  check_argument(nccl_comm != nullptr, "nccl_comm", "is null");
  auto memory = std::make_unique<GinRail>(options, domain_exchange.get(), nccl_comm);
  return exchange::connect_rail(options, std::move(domain_exchange), all_gather, std::move(memory));
}

}  // namespace lplb
