// SPDX-License-Identifier: MIT
#pragma once

#include <chrono>
#include <cstddef>
#include <memory>

#include "lplb/device_exchange.h"

// Beyond one NVLink domain by puts from within a kernel. Each maker is a library of its own beside
// lplb (CMake targets lplb::nvshmem and lplb::gin), since it carries device code of the network's
// that must fit what the process loads (docs/exchange.md).
namespace lplb {

/// Where a rank stands: ranks are numbered domain by domain, rank d * L + l is the l-th of the L
/// ranks of domain d, and its *rail* is the l-th rank of each domain.
struct RailOptions {
  Index domain = 0;       ///< of this rank
  Index num_domains = 0;  ///< 1 to 1024, the same on every rank
  /// PackedLayout::size() of the largest placement: replicated experts + ranks. >= 1.
  std::size_t max_counts = 0;
  /// How long a round waits, on the device, for the rail, and then for the domain. > 0.
  std::chrono::microseconds deadline = std::chrono::seconds(10);
};

/// An exchange of two levels as one kernel: it puts this rank's counts along its rail (one put with
/// signal a domain, all at once), waits for those that come, and exchanges what has come along the
/// rails within the domain by stores, as a PeerGroup's channel does. Between a kernel that counts
/// and one that plans.
///
/// `domain_exchange`: a channel of a PeerGroup among the ranks of this domain, with room for
/// num_domains * max_counts + 1 counts, this exchange's alone; null: every domain is one rank.
/// `all_gather`: among all num_domains * L ranks, in order, used here alone. NVSHMEM is started
/// where it is not up (the world is then all ranks, in order); a world that is up is joined where
/// it has a PE for each rank, in order, or one for each rank of the rail, in order of domain
/// (DeepEP's normal mode).
///
/// Collective. What fails on one rank fails on all: ExchangeError says where and why. The memory,
/// rail_buffer_bytes() of symmetric memory, is freed when the exchange ends, which is collective in
/// the same sense: end it on all ranks, after a barrier behind the last round, before
/// nvshmem_finalize(). Rounds are as those of a PeerGroup's channel; a rank that lacks a count, or
/// whose domain does, gets -1 in place of all (make_two_level_exchange()). Throws ArgumentError,
/// ExchangeError or CudaError.
std::shared_ptr<DeviceExchange> make_nvshmem_exchange(
    const RailOptions& options, std::shared_ptr<DeviceExchange> domain_exchange,
    const AllGatherBytes& all_gather);

/// The same by NCCL's GPU-initiated networking (GIN). `nccl_comm`: an ncclComm_t of all ranks, in
/// order, that outlives the exchange, of the very version of NCCL that the library was built with;
/// where it has no GIN (no network that can do it) all ranks throw ExchangeError.
std::shared_ptr<DeviceExchange> make_gin_exchange(const RailOptions& options,
                                                  std::shared_ptr<DeviceExchange> domain_exchange,
                                                  const AllGatherBytes& all_gather,
                                                  void* nccl_comm);

/// Bytes that a rank's network must reach: the counts to send and those that came.
std::size_t rail_buffer_bytes(const RailOptions& options);

}  // namespace lplb
