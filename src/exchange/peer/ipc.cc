// SPDX-License-Identifier: MIT
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <utility>

#include "core/device.h"
#include "core/format.h"
#include "exchange/peer/memory.h"
#include "lplb/error.h"

// The transport of cudaIpc: processes of one machine.
namespace lplb::exchange {
namespace {

/// Memory that is shared must be an allocation of its own, so its size is a multiple of this.
constexpr std::size_t kGranularity = std::size_t{2} << 20;

/// An id of this boot of this machine, which no other has; empty if the system does not tell.
std::string boot_id() {
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string id;
  std::getline(file, id);
  return id;
}

struct IpcOffer {
  char boot[40];
  int process;
  cudaIpcMemHandle_t handle;
};

class IpcMemory : public PeerMemory {
 public:
  IpcMemory(device::Array<unsigned char> own, Index rank, const std::vector<IpcOffer>& offers)
      : own_(std::move(own)), rank_(rank) {
    bytes_ = own_.capacity();
    buffers_.assign(offers.size(), nullptr);
    buffers_[rank] = own_.get();
    try {
      for (std::size_t g = 0; g < offers.size(); ++g) {
        if (g == static_cast<std::size_t>(rank)) continue;
        LPLB_CUDA_CHECK(
            cudaIpcOpenMemHandle(&buffers_[g], offers[g].handle, cudaIpcMemLazyEnablePeerAccess));
      }
    } catch (...) {
      unmap();
      throw;
    }
  }
  ~IpcMemory() override { unmap(); }
  IpcMemory(const IpcMemory&) = delete;
  IpcMemory& operator=(const IpcMemory&) = delete;
  void disconnect() override { unmap(); }

 private:
  void unmap() noexcept {
    for (std::size_t g = 0; g < buffers_.size(); ++g) {
      if (g != static_cast<std::size_t>(rank_) && buffers_[g] != nullptr) {
        (void)cudaIpcCloseMemHandle(std::exchange(buffers_[g], nullptr));
      }
    }
  }

  device::Array<unsigned char> own_;
  Index rank_;
};

class IpcMaker : public Maker {
 public:
  explicit IpcMaker(Index rank) : rank_(rank) {}

  std::vector<std::byte> offer(std::size_t bytes) override {
    own_.reserve((bytes + kGranularity - 1) / kGranularity * kGranularity);
    LPLB_CUDA_CHECK(cudaMemset(own_.get(), 0, own_.capacity()));
    LPLB_CUDA_CHECK(cudaDeviceSynchronize());
    IpcOffer offer{};
    offer.process = static_cast<int>(::getpid());
    std::strncpy(offer.boot, boot_id().c_str(), sizeof(offer.boot) - 1);
    LPLB_CUDA_CHECK(cudaIpcGetMemHandle(&offer.handle, own_.get()));
    const auto* const first = reinterpret_cast<const std::byte*>(&offer);
    return {first, first + sizeof(offer)};
  }

  std::unique_ptr<PeerMemory> accept(const std::vector<std::vector<std::byte>>& bytes) override {
    std::vector<IpcOffer> offers(bytes.size());
    for (std::size_t g = 0; g < bytes.size(); ++g) {
      if (bytes[g].size() != sizeof(IpcOffer)) throw ExchangeError("an offer of another size");
      std::memcpy(&offers[g], bytes[g].data(), sizeof(IpcOffer));
    }
    const IpcOffer& mine = offers[rank_];
    for (std::size_t g = 0; g < offers.size(); ++g) {
      if (g == static_cast<std::size_t>(rank_)) continue;
      if (std::strcmp(offers[g].boot, mine.boot) != 0) {
        throw ExchangeError(formatted("rank {} runs on another machine", g));
      }
      if (offers[g].process == mine.process) {
        throw ExchangeError(formatted("rank {} is in the same process", g));
      }
    }
    return std::make_unique<IpcMemory>(std::move(own_), rank_, offers);
  }

 private:
  Index rank_;
  device::Array<unsigned char> own_;
};

}  // namespace

std::string find_missing_for_ipc() {
  int device = 0;
  int has_ipc = 0;
  LPLB_CUDA_CHECK(cudaGetDevice(&device));
  LPLB_CUDA_CHECK(cudaDeviceGetAttribute(&has_ipc, cudaDevAttrIpcEventSupport, device));
  if (has_ipc == 0) return "the device has no IPC";
  return boot_id().empty() ? "/proc/sys/kernel/random/boot_id cannot be read" : "";
}

std::unique_ptr<Maker> make_ipc(const MakerGroup& group) {
  return std::make_unique<IpcMaker>(group.rank);
}

}  // namespace lplb::exchange
