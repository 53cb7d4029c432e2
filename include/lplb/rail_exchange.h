// SPDX-License-Identifier: MIT
#pragma once

#include <chrono>
#include <cstddef>
#include <memory>

#include "lplb/device_exchange.h"
#include "lplb/export.h"

// Exchanges beyond one NVLink domain, by puts from within a kernel (docs/beyond-one-domain.md).
// Each function is in a library of its own (CMake targets lplb::nvshmem and lplb::gin), because it
// carries device code of NVSHMEM or NCCL, which must fit what the process loads.
namespace lplb {

/// Where a rank is. Ranks are numbered domain by domain: rank d * L + l is the l-th of the L ranks
/// of domain d. The l-th ranks of all domains are a rail.
struct RailOptions {
  Index domain = 0;       ///< the domain of this rank
  Index num_domains = 0;  ///< 1 to 1024, the same on every rank
  /// The most counts that a rank sends, >= 1: PackedLayout::size() of the largest placement, which
  /// is its replicated experts + ranks.
  std::size_t max_counts = 0;
  /// How long a round waits on the device for the rail, and then as long again for the domain. > 0.
  std::chrono::microseconds deadline = std::chrono::seconds(10);
};

/// An exchange of two levels as one kernel, between a kernel that counts and one that plans. It
/// puts this rank's counts along its rail (one put with a signal for each domain, all at once), and
/// waits for those that come. Then it exchanges within the domain, by stores, what has come along
/// the rails, as a PeerGroup's channel does.
///
/// - `domain_exchange`: a channel of a PeerGroup among the ranks of this domain, with room for
///   num_domains * max_counts + 1 counts, used by this exchange only. Null: every domain is one
///   rank.
/// - `all_gather`: among all num_domains * L ranks, in order. Used only in this call.
///
/// If NVSHMEM is not up, it is started with all ranks, in order. A world that is up is joined if it
/// has a PE for each rank, in order, or a PE for each rank of the rail, in order of domain
/// (DeepEP's normal mode).
///
/// Rounds are as those of a PeerGroup's channel. If a rank or its domain lacks a count, the rank
/// gets -1 in place of all counts, as with make_two_level_exchange().
///
/// This call is collective. If it fails on one rank, all ranks throw ExchangeError, which says
/// where and why. The exchange takes rail_buffer_bytes() of symmetric memory and frees it at its
/// end, which is collective, too: destroy it on all ranks, after a barrier that follows the last
/// round, and before nvshmem_finalize(). Throws ArgumentError if this rank's arguments are wrong,
/// before anything is exchanged.
LPLB_API std::shared_ptr<DeviceExchange> make_nvshmem_exchange(
    const RailOptions& options, std::shared_ptr<DeviceExchange> domain_exchange,
    const AllGatherBytes& all_gather);

/// The same by NCCL's GPU-initiated networking (GIN). `nccl_comm`: an ncclComm_t of all ranks, in
/// order, which must outlive the exchange. NCCL must have exactly the version with which the
/// library was built. If the communicator has no GIN, because no network can do it, all ranks throw
/// ExchangeError.
LPLB_API std::shared_ptr<DeviceExchange> make_gin_exchange(
    const RailOptions& options, std::shared_ptr<DeviceExchange> domain_exchange,
    const AllGatherBytes& all_gather, void* nccl_comm);

/// The size in bytes of the memory of a rank that its network must reach: the counts that it sends
/// and those that come. Throws ArgumentError if an option is out of range.
LPLB_API std::size_t rail_buffer_bytes(const RailOptions& options);

}  // namespace lplb
