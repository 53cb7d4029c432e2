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
#include "lplb/export.h"
#include "lplb/types.h"

namespace lplb {

/// A cudaStream_t. Null is the default stream of the runtime.
using StreamHandle = void*;

/// A transport: how the ranks of a group see each other's memory, so that counts can travel
/// (docs/transports.md).
enum class Transport {
  kGiven,    ///< pointers that the user gives, from torch symmetric memory, say
  kProcess,  ///< ranks are devices or streams of one process
  kIpc,      ///< cudaIpc handles: ranks are processes of one machine
  kFabric,   ///< fabric handles: processes of one NVLink domain, also of several machines
  kNccl,     ///< a window of an NCCL communicator
  kNvshmem,  ///< NVSHMEM's symmetric memory
};

/// Converts "given", "process", "ipc", "fabric", "nccl" and "nvshmem" to a Transport, and back.
/// Throws ArgumentError for any other name.
LPLB_API Transport parse_transport(std::string_view name);
LPLB_API const char* transport_name(Transport transport);

struct PeerGroupOptions {
  /// The most counts that a rank sends in a round, >= 1: PackedLayout::size() of the largest
  /// placement, which is its replicated experts + ranks.
  std::size_t max_counts = 0;
  /// 1 to 65536: one for each layer and batch in flight. Channels share only the allocation.
  Index num_channels = 1;
  /// How long a round waits for the peers, on the device. > 0.
  std::chrono::microseconds deadline = std::chrono::seconds(10);
};

/// The size in bytes of a rank's buffer, which is the only device memory that a group takes. A
/// transport may round it up to what it can share, usually 2 MiB: see PeerGroup::bytes(). Throws
/// ArgumentError if num_ranks is not in 1 to kMaxRanks, or an option is out of range.
LPLB_API std::size_t peer_buffer_bytes(Index num_ranks, const PeerGroupOptions& options);

/// An all-gather of bytes among the processes of a group, over whatever connects them: returns what
/// each rank gave, in order of rank. Ranks may give different numbers of bytes. All ranks call it
/// equally often.
using AllGatherBytes =
    std::function<std::vector<std::vector<std::byte>>(std::span<const std::byte> mine)>;

/// What PeerGroup::connect() may use.
struct ConnectOptions {
  /// "auto", or one of "ipc", "fabric", "nccl" and "nvshmem"; the same on every rank. "auto" takes
  /// the first of the four that every rank can use and that works. NOTE: its last choice starts
  /// NVSHMEM if no world is up and libnvshmem_host.so.3 is found.
  std::string transport = "auto";
  /// An ncclComm_t of the group, with its ranks in the same order; null: "nccl" cannot be used.
  /// NCCL is the library that the process has loaded; it must be 2.29 or newer.
  void* nccl_comm = nullptr;
};

/// An AllGatherBytes by ncclAllGather(), for programs that have no other. A call uses a stream of
/// its own and waits for it. `nccl_comm` is an ncclComm_t and must outlive the result. Throws
/// ArgumentError if it is null, and ExchangeError if NCCL is missing or fails. Calls also throw
/// CudaError.
LPLB_API AllGatherBytes gather_bytes_by_nccl(void* nccl_comm);

/// How the rounds of an exchange ended, on this rank.
struct DeviceExchangeStats {
  std::int64_t rounds = 0;
  std::int64_t timed_out = 0;   ///< a peer did not come before the deadline
  std::int64_t behind = 0;      ///< peers had given up the round before this rank came
  std::int64_t mismatched = 0;  ///< a peer exchanges the counts of another placement
  Index last_missing = -1;      ///< a rank that the last incomplete round lacked; -1: none
  std::int64_t complete() const { return rounds - timed_out - behind - mismatched; }
};

/// The arguments of one all-gather. All pointers are to device memory.
struct DeviceGather {
  const std::int32_t* mine = nullptr;  ///< [num_counts]: what this rank sends
  std::int32_t* all = nullptr;         ///< [num_ranks, num_counts], written
  /// [1], written: 0 if the round is complete; otherwise `all` is unspecified. Null: not wanted.
  std::int32_t* outcome = nullptr;
  std::size_t num_counts = 0;     ///< 1 to max_counts, the same on all ranks
  std::uint64_t fingerprint = 0;  ///< says what is exchanged; must be equal on all ranks
};

/// An all-gather of counts on the device, which a DevicePlanner uses, or the user. A channel of a
/// PeerGroup runs within the plan's kernel. Any other exchange, of this library or of your own,
/// runs between two kernels.
///
/// Rounds of a PeerGroup's channel: the n-th call of each rank belongs to round n. Every rank takes
/// part in every round, with 0 tokens, too. A round ends in one of four ways, and ranks may see the
/// same round end in different ways:
///
/// - complete: all counts have come, the same bits on every rank;
/// - timed out: a peer did not come before the deadline, and the rank goes on without it;
/// - behind: a peer is in a later round, so it has given up this one. The rank knows this at once,
///   without a wait, so a rank that was late catches up with the others;
/// - mismatched: a peer has another fingerprint.
///
/// Rounds are complete again as soon as all ranks come before the deadline. A process that ended
/// does not come back: make a new group.
///
/// Rounds of a channel must follow each other on the device: one stream, or events between streams.
/// They may be captured in CUDA graphs, and replayed. Not thread-safe.
class LPLB_API DeviceExchange {
 public:
  virtual ~DeviceExchange() = default;
  virtual Index num_ranks() const = 0;
  virtual Index rank() const = 0;
  virtual std::size_t max_counts() const = 0;

  /// Enqueues a round on `stream` and does not wait. A PeerGroup's channel launches one kernel of
  /// one block. Throws ArgumentError if `gather` is wrong, CudaError, or ExchangeError if a library
  /// such as NCCL fails.
  virtual void all_gather(StreamHandle stream, const DeviceGather& gather) = 0;

  /// How all rounds so far have ended. Waits for the stream, so it must not be captured. Throws
  /// CudaError, also for errors of earlier work on the stream.
  virtual DeviceExchangeStats stats(StreamHandle stream) = 0;
};

/// An exchange by ncclAllGather() on the caller's stream, between a kernel that counts and one that
/// plans. It takes longer than a PeerGroup's, and works wherever NCCL does. There is no deadline
/// (NCCL's own time-out holds) and no fingerprint, and stats() only counts the calls of
/// all_gather(). `nccl_comm` is an ncclComm_t of the group and must outlive the exchange. Throws
/// ArgumentError if it is null or max_counts is 0, and ExchangeError if NCCL is missing or fails.
LPLB_API std::shared_ptr<DeviceExchange> make_nccl_exchange(void* nccl_comm,
                                                            std::size_t max_counts);

/// An exchange among ranks of several NVLink domains (docs/beyond-one-domain.md). Ranks are
/// numbered domain by domain: rank d * L + l is the l-th of the L ranks of domain d. `rail`
/// connects the l-th ranks of all domains, in order of domain, over whatever reaches them
/// (make_nccl_exchange(), say). `domain` connects the ranks of this rank's own domain. Both may be
/// used by this exchange only.
///
/// A round sends this rank's counts along the rail, then sends within the domain what has come
/// along the rails. So each count crosses between two domains once. That is three kernels or
/// collectives on the caller's stream, between a kernel that counts and one that plans.
///
/// max_counts() is the most for which both have room: `domain` carries the counts of all domains,
/// and one more. If a rank lacks a count in a round, it gets -1 in place of all counts, so that its
/// planner refuses the batch; stats() and DeviceGather::outcome say so. Throws ArgumentError if an
/// exchange is null, has too little room, or there would be more than kMaxRanks ranks; CudaError.
LPLB_API std::shared_ptr<DeviceExchange> make_two_level_exchange(
    std::shared_ptr<DeviceExchange> rail, std::shared_ptr<DeviceExchange> domain);

/// The ranks whose counts are exchanged within the plan's kernel (docs/exchange.md): this rank's
/// buffer, and the addresses of the others' buffers.
///
/// Peers write to a rank's memory, so no rank may end its group while rounds of another rank are
/// under way. Channels keep the memory alive. To end a group cleanly:
///
/// 1. Wait until all rounds are over, then a barrier of the ranks.
/// 2. disconnect(), then another barrier.
/// 3. The destructors.
class LPLB_API PeerGroup {
 public:
  /// A group of memory that the user owns. `buffers` [num_ranks], in order of rank, are addresses
  /// for the current device; `buffers[rank]` is this rank's own. Each buffer has
  /// peer_buffer_bytes() bytes, is aligned to 256, and is zero before any rank makes its group.
  /// Throws ArgumentError or CudaError.
  static PeerGroup from_pointers(Index rank, std::span<void* const> buffers,
                                 const PeerGroupOptions& options);

  /// All ranks of a group in one process, rank g on `devices[g]`. If a device has several ranks,
  /// their rounds need streams whose kernels run at the same time: a device has 8 connections by
  /// default (CUDA_DEVICE_MAX_CONNECTIONS), and each rank needs one. Throws ArgumentError, also if
  /// devices cannot access each other's memory, or CudaError.
  static std::vector<PeerGroup> in_process(std::span<const int> devices,
                                           const PeerGroupOptions& options);

  /// A group whose ranks are processes, each on its current device. Collective. The ranks agree by
  /// `all_gather` which transport to use, and after each step whether it worked on all of them. So
  /// all ranks get the same transport, or all throw.
  ///
  /// Throws ArgumentError if this rank's arguments are wrong, before anything is exchanged. Throws
  /// ExchangeError, on all ranks, if arguments differ between ranks, a rank has no device, or no
  /// transport works; the message says which rank lacks what. What `all_gather` throws passes
  /// through.
  static PeerGroup connect(Index rank, Index num_ranks, const AllGatherBytes& all_gather,
                           const PeerGroupOptions& options, const ConnectOptions& how = {});

  PeerGroup(PeerGroup&&) noexcept;
  PeerGroup& operator=(PeerGroup&&) noexcept;
  ~PeerGroup();

  Index num_ranks() const;
  Index rank() const;
  Transport transport() const;
  /// Device memory of this rank, in bytes: peer_buffer_bytes() or a little more.
  std::size_t bytes() const;
  Index num_channels() const;

  /// Channel `index`, which is handed out once. Throws ArgumentError if index is out of range or
  /// the channel was handed out before; CudaError.
  std::shared_ptr<DeviceExchange> channel(Index index);

  /// Unmaps the memory of the peers, so that they can free it (CUDA demands that for "ipc"). Call
  /// it with the device current that was current at connect(). No round may be under way, and none
  /// may follow.
  void disconnect();

  struct LPLB_HIDDEN State;
  explicit PeerGroup(std::shared_ptr<State> state);

 private:
  std::shared_ptr<State> state_;
};

}  // namespace lplb
