// SPDX-License-Identifier: MIT
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "exchange/peer/layout.h"
#include "lplb/device_exchange.h"

// What PeerGroup, the transports that give it pointers, its kernel, and others that use the peers'
// memory share.
namespace lplb::exchange {

/// A rank's buffer and the mapped buffers of its peers. The destructor frees what the transport has
/// allocated and mapped.
class PeerMemory {
 public:
  virtual ~PeerMemory() = default;
  /// [num_ranks], in this device's address space.
  const std::vector<void*>& buffers() const { return buffers_; }
  /// The size of this rank's own buffer in device memory.
  std::size_t bytes() const { return bytes_; }
  /// Unmaps the peers' memory.
  virtual void disconnect() {}
  /// Says that every rank has its memory, and that every rank will destroy it. Called at most once.
  /// Before this call the destructor must not wait for another rank, because that rank may have no
  /// memory.
  virtual void settle() {}

 protected:
  std::vector<void*> buffers_;
  std::size_t bytes_ = 0;
};

/// A transport by which processes map each other's memory. A step that fails throws. After each
/// step the ranks tell each other how it went.
class Maker {
 public:
  virtual ~Maker() = default;
  /// Allocates zeroed memory and returns what the peers need to map it. Must not make a collective
  /// call.
  virtual std::vector<std::byte> offer(std::size_t bytes) = 0;
  /// Maps the peers' memory. `offers` holds what offer() returned on each rank. May be collective.
  virtual std::unique_ptr<PeerMemory> accept(const std::vector<std::vector<std::byte>>& offers) = 0;
};

struct MakerGroup {
  Index rank;
  Index num_ranks;
  void* nccl_comm;
};

/// Why this process cannot use a transport; empty if it can, as far as it can tell without the
/// other ranks.
std::string find_missing_for_ipc();
std::string find_missing_for_fabric();
std::string find_missing_for_nccl(const MakerGroup& group);
std::string find_missing_for_nvshmem();
std::unique_ptr<Maker> make_ipc(const MakerGroup& group);
std::unique_ptr<Maker> make_fabric(const MakerGroup& group);
std::unique_ptr<Maker> make_nccl(const MakerGroup& group);
std::unique_ptr<Maker> make_nvshmem(const MakerGroup& group);

/// Prepares the memory of a member, once it is mapped. May throw.
using PrepareMemory = std::function<void(Index member, const PeerMemory& memory)>;

struct ConnectedMemory {
  Transport transport;
  std::unique_ptr<PeerMemory> memory;
};

/// Connects buffers of `bytes` of all ranks, as PeerGroup::connect() says. `what` says what this
/// rank connects; all ranks must say the same.
ConnectedMemory connect_memory(const MakerGroup& group, const AllGatherBytes& all_gather,
                               const ConnectOptions& how, const std::string& what,
                               std::size_t bytes, const PrepareMemory& prepare);
/// Allocates the buffers of all ranks in this process, as PeerGroup::in_process() says.
std::vector<std::unique_ptr<PeerMemory>> allocate_in_process(std::span<const int> devices,
                                                             std::size_t bytes,
                                                             const PrepareMemory& prepare);
/// Memory that belongs to the caller, as PeerGroup::from_pointers() says.
std::unique_ptr<PeerMemory> use_given(Index rank, std::span<void* const> buffers,
                                      std::size_t bytes);

/// Reads `control` in device memory through `pinned` memory of the host. Waits for the stream.
/// Throws CudaError.
DeviceExchangeStats read_stats(const ExchangeControl* control, ExchangeControl* pinned,
                               StreamHandle stream);

/// The deadline as an argument of a kernel: in nanoseconds, at most 30 days.
unsigned long long deadline_ns(std::chrono::microseconds deadline);

/// Both throw ArgumentError.
void check_gather(const DeviceExchange& exchange, const DeviceGather& gather);
void check_group(Index num_ranks, Index rank, const PeerGroupOptions& options);
ExchangeLayout layout_of(Index num_ranks, const PeerGroupOptions& options);

/// Writes the addresses of all buffers into this rank's own buffer. All buffers must be zero.
/// Throws CudaError.
void prepare_buffer(Index rank, const PeerMemory& memory);
/// Makes a PeerGroup of ranks that are connected and whose buffers are prepared. Does not fail.
PeerGroup make_peer_group(Index rank, Transport transport, std::unique_ptr<PeerMemory> memory,
                          const PeerGroupOptions& options);

/// The kernel's arguments for a channel that PeerGroup handed out. Valid as long as the channel
/// lives. Null for any other exchange.
const PeerArgs* peer_args(const DeviceExchange& exchange);

/// Loads the kernel. NOTE: if it were loaded at its first launch, that would wait for the rounds of
/// other ranks of the process, which wait for this one. Throws CudaError.
void prepare_gather();
/// Enqueues one round without a plan. Throws CudaError.
void launch_gather(const PeerArgs& args, const DeviceGather& gather, StreamHandle stream);

}  // namespace lplb::exchange
