// SPDX-License-Identifier: MIT
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lplb/exchange.h"
#include "lplb/types.h"

namespace lplb {

/// A cudaStream_t. Null is the runtime's default stream.
using StreamHandle = void*;

/// How the ranks of a group come to see each other's memory (docs/exchange.md).
enum class Transport {
  kGiven,    ///< pointers, given by the user: from torch symmetric memory, say
  kProcess,  ///< ranks are devices, or streams, of one process
  kIpc,      ///< cudaIpc handles: processes of one machine
  kFabric,   ///< fabric handles: processes of one NVLink domain, on several machines too
  kNccl,     ///< a window of an NCCL communicator
  kNvshmem,  ///< NVSHMEM's symmetric memory
};

/// "ipc", "fabric" ... Throws ArgumentError for any other name.
Transport parse_transport(std::string_view name);
const char* transport_name(Transport transport);

struct PeerGroupOptions {
  /// PackedLayout::size() of the largest placement: replicated experts + ranks. >= 1.
  std::size_t max_counts = 0;
  /// One a layer and batch in flight: channels share nothing but the allocation.
  Index num_channels = 1;
  /// How long a round waits for the peers, on the device. > 0.
  std::chrono::microseconds deadline = std::chrono::seconds(10);
};

/// Bytes of a rank's buffer, the only device memory that a group takes; ipc, fabric, nccl and
/// nvshmem round it up to what they can share, 2 MiB as a rule.
std::size_t peer_buffer_bytes(Index num_ranks, const PeerGroupOptions& options);

/// An all-gather among the processes of a group, over whatever connects them: returns what each
/// rank gave, in order of rank. Every rank calls it as often as the others.
using AllGatherBytes =
    std::function<std::vector<std::vector<std::byte>>(std::span<const std::byte> mine)>;

/// What connect() may use.
struct ConnectOptions {
  /// "auto": the first of ipc, fabric, nccl and nvshmem that every rank can use and that works; or
  /// the name of one of these, the same on every rank.
  std::string transport = "auto";
  /// An ncclComm_t of the group, its ranks in the same order; null: not "nccl". NCCL is the library
  /// that the process has loaded, 2.29 or newer.
  void* nccl_comm = nullptr;
};

/// AllGatherBytes by ncclAllGather() on a stream of its own, which it waits for: for a program that
/// has nothing else. `nccl_comm` is an ncclComm_t and must outlive it. Throws ExchangeError.
AllGatherBytes gather_bytes_by_nccl(void* nccl_comm);

/// What has become of the rounds of a channel.
struct DeviceExchangeStats {
  std::int64_t rounds = 0;
  std::int64_t timed_out = 0;   ///< a peer did not come before the deadline
  std::int64_t behind = 0;      ///< peers had given the round up before this rank came
  std::int64_t mismatched = 0;  ///< a peer exchanges the counts of another placement
  Index last_missing = -1;      ///< a rank that the last incomplete round lacked; -1: none
  std::int64_t complete() const { return rounds - timed_out - behind - mismatched; }
};

/// One all-gather on the device.
struct DeviceGather {
  const std::int32_t* mine = nullptr;  ///< [num_counts]
  std::int32_t* all = nullptr;         ///< [num_ranks, num_counts], written; unspecified if not 0:
  std::int32_t* outcome = nullptr;     ///< [1], may be null, written: 0 where the round is complete
  std::size_t num_counts = 0;          ///< 1 to max_counts, the same on all ranks
  std::uint64_t fingerprint = 0;       ///< of what is exchanged: ranks with another one refuse it
};

/// An all-gather of counts on the device: the exchange of one DevicePlanner, or by itself. What a
/// PeerGroup makes runs within the plan's kernel; any other, this library's or the user's, between
/// two kernels.
///
/// Rounds of a PeerGroup's channel: the n-th round of each rank belongs to round n; a rank takes
/// part in all of them, with 0 tokens too. A round ends in one of four ways, for each rank by
/// itself (the others may see the same round end in another way):
/// - complete: all counts are there, the same bits on every rank;
/// - timed out: a peer did not come within the deadline, and the rank goes on without;
/// - behind: a peer is rounds ahead, so that this round was given up: known at once, without a
///   wait, so that a rank that was late catches up with the others;
/// - mismatched: a peer's fingerprint differs.
/// From the first round on to which all ranks come within the deadline rounds are complete again. A
/// process that ended never comes back: its group is to be made anew.
///
/// Rounds of a channel must follow each other on the device: one stream, or events between. They
/// may be captured in CUDA graphs, and replayed. Not thread-safe.
class DeviceExchange {
 public:
  virtual ~DeviceExchange() = default;
  virtual Index num_ranks() const = 0;
  virtual Index rank() const = 0;
  virtual std::size_t max_counts() const = 0;

  /// Enqueues a round as a kernel of one block. Throws ArgumentError or CudaError.
  virtual void all_gather(StreamHandle stream, const DeviceGather& gather) = 0;

  /// Waits for the stream.
  virtual DeviceExchangeStats stats(StreamHandle stream) = 0;
};

/// The slow way that works everywhere: ncclAllGather() on the caller's stream, between a kernel
/// that counts and one that plans. Without deadline or fingerprint: NCCL waits as it is told to.
/// `nccl_comm` is an ncclComm_t of the group and must outlive it. Throws ArgumentError, or
/// ExchangeError where there is no NCCL.
std::shared_ptr<DeviceExchange> make_nccl_exchange(void* nccl_comm, std::size_t max_counts);

/// Ranks of several NVLink domains, numbered domain by domain: rank d * L + l is the l-th of the L
/// ranks of domain d. `rail` is among the l-th ranks of all domains, in order of domain, over
/// whatever reaches them (make_nccl_exchange(), say); `domain` among the ranks of this rank's own.
/// A round first sends this rank's counts along the rail, then within the domain what has come
/// along the rails: each count crosses between two domains once. Three kernels or collectives on
/// the caller's stream, between one that counts and one that plans.
///
/// max_counts() is the most that both have room for: `domain` carries rail's num_ranks() times as
/// many, and one more. A rank that lacks a count in a round gets -1 in place of all of them, so
/// that a planner refuses the batch; stats() and DeviceGather::outcome say so. Both exchanges are
/// this one's alone. Throws ArgumentError where one is null or there is no room, CudaError.
std::shared_ptr<DeviceExchange> make_two_level_exchange(std::shared_ptr<DeviceExchange> rail,
                                                        std::shared_ptr<DeviceExchange> domain);

/// This rank's buffer, and where those of the others are.
///
/// A rank's memory is written by its peers: no rank may end its group while another one's rounds
/// are under way. Channels keep the memory alive. The end, where it is to be clean: a barrier of
/// the ranks once all rounds are over, disconnect(), another barrier, then the destructors.
class PeerGroup {
 public:
  /// `buffers` [num_ranks], ranks in order, in the address space of the current device: each of
  /// peer_buffer_bytes(), aligned to 256, zero before the first round of any rank, and the user's
  /// to free. buffers[rank] is this rank's own. Throws ArgumentError or CudaError.
  static PeerGroup from_pointers(Index rank, std::span<void* const> buffers,
                                 const PeerGroupOptions& options);

  /// All ranks of a group in one process: rank g on devices[g]. A device may come several times;
  /// rounds of its ranks then need streams whose kernels run at the same time (of the default 8
  /// connections of a device, see CUDA_DEVICE_MAX_CONNECTIONS, one a rank). Throws ArgumentError,
  /// or CudaError where devices cannot read each other's memory.
  static std::vector<PeerGroup> in_process(std::span<const int> devices,
                                           const PeerGroupOptions& options);

  /// One process a rank, on its current device. Collective. What is to be used, and whether each
  /// step worked, is agreed by `all_gather` first: all ranks get the same transport, or all throw.
  /// Throws ArgumentError where this rank's arguments are wrong, before anything is exchanged;
  /// ExchangeError, on all ranks, where arguments differ between ranks, a rank has no device, or no
  /// transport works (it says which rank lacks what).
  static PeerGroup connect(Index rank, Index num_ranks, const AllGatherBytes& all_gather,
                           const PeerGroupOptions& options, const ConnectOptions& how = {});

  PeerGroup(PeerGroup&&) noexcept;
  PeerGroup& operator=(PeerGroup&&) noexcept;
  ~PeerGroup();

  Index num_ranks() const;
  Index rank() const;
  Transport transport() const;
  std::size_t bytes()
      const;  ///< of device memory, of this rank: peer_buffer_bytes() or a little more
  Index num_channels() const;

  /// Handed out once. Throws ArgumentError.
  std::shared_ptr<DeviceExchange> channel(Index index);

  /// Gives up the peers' memory, so that they may free it (CUDA wants that of "ipc"), on the device
  /// that was current at connect(). No round may be under way, nor follow.
  void disconnect();

  struct State;
  explicit PeerGroup(std::shared_ptr<State> state);

 private:
  std::shared_ptr<State> state_;
};

}  // namespace lplb
