// SPDX-License-Identifier: MIT
#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "exchange/peer/layout.h"
#include "lplb/device_exchange.h"

// Between PeerGroup, the makers of its pointers, and its kernel.
namespace lplb::exchange {

/// A rank's buffer and the mapped buffers of its peers; what a maker owns it frees.
class PeerMemory {
 public:
  virtual ~PeerMemory() = default;
  /// [num_ranks], in this device's address space.
  const std::vector<void*>& buffers() const { return buffers_; }
  /// Of this rank's own, in device memory.
  std::size_t bytes() const { return bytes_; }
  /// Gives up the peers' memory.
  virtual void disconnect() {}
  /// Every rank has its memory, and will end it. Called once at most; before it the destructor must
  /// not wait for another rank, which may have none.
  virtual void settle() {}

 protected:
  std::vector<void*> buffers_;
  std::size_t bytes_ = 0;
};

/// A way for processes to map each other's memory. Steps fail by exceptions; between them the ranks
/// tell each other how it went.
class Maker {
 public:
  virtual ~Maker() = default;
  /// Allocates zeroed memory, in no collective call; returns what the peers need to map it.
  virtual std::vector<std::byte> offer(std::size_t bytes) = 0;
  /// Maps the peers' memory, from what each rank's offer() returned. May be collective.
  virtual std::unique_ptr<PeerMemory> accept(const std::vector<std::vector<std::byte>>& offers) = 0;
};

struct MakerGroup {
  Index rank;
  Index num_ranks;
  void* nccl_comm;
};

/// Why this process cannot use a transport; empty: it can, as far as it knows alone.
std::string find_missing_for_ipc();
std::string find_missing_for_fabric();
std::string find_missing_for_nccl(const MakerGroup& group);
std::string find_missing_for_nvshmem();
std::unique_ptr<Maker> make_ipc(const MakerGroup& group);
std::unique_ptr<Maker> make_fabric(const MakerGroup& group);
std::unique_ptr<Maker> make_nccl(const MakerGroup& group);
std::unique_ptr<Maker> make_nvshmem(const MakerGroup& group);

/// Of `control` in device memory, by way of `pinned` memory of the host. Waits for the stream.
/// Throws CudaError.
DeviceExchangeStats read_stats(const ExchangeControl* control, ExchangeControl* pinned,
                               StreamHandle stream);

/// As kernels take it.
unsigned long long deadline_ns(std::chrono::microseconds deadline);

/// Throw ArgumentError.
void check_gather(const DeviceExchange& exchange, const DeviceGather& gather);
void check_group(Index num_ranks, Index rank, const PeerGroupOptions& options);
ExchangeLayout layout_of(Index num_ranks, const PeerGroupOptions& options);

/// Puts the addresses of all buffers, which are zero, into this rank's own. Throws CudaError.
void prepare_buffer(Index rank, const PeerMemory& memory);
/// Of a connected group, with its buffers prepared. Does not fail.
PeerGroup make_peer_group(Index rank, Transport transport, std::unique_ptr<PeerMemory> memory,
                          const PeerGroupOptions& options);

/// What a kernel takes of a channel that PeerGroup handed out, as long as the channel lives; null
/// for others.
const PeerArgs* peer_args(const DeviceExchange& exchange);

/// Loads the kernel: at its first launch that would wait for the rounds of other ranks of the
/// process, which wait for this one. Throws CudaError.
void prepare_gather();
/// Enqueues a round by itself. Throws CudaError.
void launch_gather(const PeerArgs& args, const DeviceGather& gather, StreamHandle stream);

}  // namespace lplb::exchange
