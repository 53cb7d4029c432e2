// SPDX-License-Identifier: MIT
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "exchange/peer_layout.h"
#include "lplb/device_exchange.h"

// Between PeerGroup, the makers of its pointers, and its kernel.
namespace lplb {

/// A rank's buffer and the mapped buffers of its peers; what a maker owns it frees.
class PeerMemory {
 public:
  virtual ~PeerMemory() = default;
  /// [num_ranks], in this device's address space.
  virtual const std::vector<void*>& buffers() const = 0;
};

/// Throws ArgumentError.
void check_group(Index num_ranks, Index rank, const PeerGroupOptions& options);
ExchangeLayout layout_of(Index num_ranks, const PeerGroupOptions& options);

/// Of a connected group; all buffers are zero. Throws CudaError.
PeerGroup make_peer_group(Index rank, Transport transport, std::unique_ptr<PeerMemory> memory,
                          const PeerGroupOptions& options);

/// What a kernel takes of a channel that PeerGroup handed out. Throws ArgumentError for others.
const PeerArgs& peer_args(const DeviceExchange& exchange);

/// Loads the kernel: at its first launch that would wait for the rounds of other ranks of the
/// process, which wait for this one. Throws CudaError.
void prepare_gather();
/// Enqueues a round by itself. Throws CudaError.
void launch_gather(const PeerArgs& args, const DeviceGather& gather, StreamHandle stream);

}  // namespace lplb
