// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <memory>

#include "lplb/device_exchange.h"
#include "lplb/export.h"
#include "lplb/replicate.h"

namespace lplb {

/// How a plan of DeviceReplicator ended.
enum class ReplicationStatus : std::int32_t {
  kOptimal = 0,  ///< max_load == lower_bound
  kBounded = 1,
  kRefused = 2,  ///< a load is negative, or the sum passes 2^31 - 1: no copies, and all loads are 0
};

/// The single values of a Replication, in device memory.
struct ReplicationSummary {
  ReplicationStatus status;
  std::int32_t max_load;     ///< in tokens, also if ranks have a speed other than 1
  std::int32_t lower_bound;  ///< the same
  std::int32_t copies;
  std::int32_t max_sent;
  std::int32_t max_received;
  /// max_load of the best split without copies, the same. With a CopyCost, Replication::saved_us is
  /// its time less that of max_load, and exposed_us follows from max_sent and max_received.
  std::int32_t max_load_without_copies;
  /// The rank that carries max_load, so that T is max_load / its speed; and the same for
  /// lower_bound and max_load_without_copies, whose ranks need not carry them. -1: all ranks have
  /// one speed.
  std::int32_t max_load_rank;
  std::int32_t lower_bound_rank;
  std::int32_t max_load_without_copies_rank;
};

/// Where DeviceReplicator writes a plan, in device memory. Fields are as in Replication, with
/// integers of 32 bits. Null: not wanted.
struct ReplicationOutputs {
  std::int32_t* slot_expert = nullptr;    ///< [num_ranks, S]
  std::int32_t* slot_source = nullptr;    ///< [num_ranks, S]
  std::int32_t* physical_load = nullptr;  ///< [num_ranks * (M + S)]
  std::int32_t* rank_load = nullptr;      ///< [num_ranks]
  std::int32_t* in_proof = nullptr;       ///< [num_ranks]: 1: the rank is in bottleneck_ranks
  ReplicationSummary* summary = nullptr;
};

/// Chooses copies for the batches of one placement on the device, by one kernel of one block. The
/// results are those of Replicator, integer for integer. Not thread-safe. It uses the device that
/// was current at construction.
///
/// With unequal speeds or several domains a slower form of the kernel runs, which plans the domains
/// one after another. The first placement decides which form an object has.
///
/// run() enqueues on the caller's stream. It does not wait or allocate, and may be captured in a
/// CUDA graph. Runs of one object may be in flight on several streams.
class LPLB_API DeviceReplicator {
 public:
  /// Throws ArgumentError as Replicator does, and if the device has no twin of what is asked for:
  /// more than 128 ranks, or a placement that does not fit the shared memory of a block. Throws
  /// CudaError if CUDA cannot be used.
  explicit DeviceReplicator(const Placement& placement, const ReplicateOptions& options = {});
  ~DeviceReplicator();
  DeviceReplicator(DeviceReplicator&&) noexcept;
  DeviceReplicator& operator=(DeviceReplicator&&) noexcept;

  /// Chooses the copies and the split of a batch. `load` [num_logical], in device memory: the
  /// tokens of each expert over all ranks. A batch that cannot be planned gets
  /// ReplicationStatus::kRefused. docs/replicas.md has the time. Throws ArgumentError if a pointer
  /// is not a multiple of 4 or `load` is null, with nothing launched; CudaError.
  void run(StreamHandle stream, const std::int32_t* load, const ReplicationOutputs& outputs);

  /// Takes effect in runs that are enqueued later, and in later replays. Must not be captured.
  /// Throws ArgumentError if `placement` has other ranks, logical experts or slots a rank, or
  /// unequal speeds if the first one had equal speeds and there is one domain; CudaError.
  void update_placement(StreamHandle stream, const Placement& placement);

 private:
  struct LPLB_HIDDEN State;
  std::unique_ptr<State> state_;
};

}  // namespace lplb
