// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "lplb/device_exchange.h"
#include "lplb/planner.h"
#include "lplb/quotas.h"
#include "lplb/types.h"

namespace lplb {

/// How a batch is launched.
enum class PlanShape {
  kAuto,     ///< kCluster where the device has clusters (compute capability 9.0), else kKernels
  kCluster,  ///< one kernel of one cluster of blocks
  kKernels,  ///< three kernels, count, solve and map; each starts before the last one has ended
};

struct DevicePlannerOptions {
  PlanShape shape = PlanShape::kAuto;
  int max_blocks = 8;  ///< blocks, hence SMs, of a launch: 1, 2, 4 or 8. Small batches take fewer
  /// After each batch a kernel checks it on the device, from first principles: every token is at a
  /// live replica of its expert, this rank's tokens of a replica are what the rules say, over all
  /// ranks every quota is met, and no rank exceeds the reported load. Slow.
  bool checks = false;
  /// Keep what write_quotas() needs of each batch in device memory.
  bool keeps_split = false;
  /// How the planner learns the other ranks' counts, of the same rank and number of ranks, with
  /// room for the largest placement's counts; this planner's alone. A channel of a PeerGroup:
  /// within the plan's kernel. Any other: between a kernel that counts and one that plans (with
  /// staleness: behind the plan, on a stream beside the caller's); what it gathers is taken as
  /// complete. Null: they are given with each batch.
  std::shared_ptr<DeviceExchange> exchange;
};

/// One rank's batch, in device memory. An id is int32 or int64, and aligned as such.
struct DeviceBatch {
  const void* topk_idx = nullptr;  ///< [num_tokens, num_topk]; may be null where num_tokens is 0
  int id_bytes = 4;                ///< 4 or 8, of topk_idx and of what is written
  std::int64_t num_tokens = 0;     ///< num_tokens * num_topk: 0 to max_tokens * that of the options
  Index num_topk = 0;              ///< entries a token; 0: PlannerOptions::num_topk
  /// How many of the tokens are real, the others pad: not counted, and mapped to -1. Null: all.
  /// Clamped to [0, num_tokens], and told by the status word then.
  const std::int32_t* num_valid_tokens = nullptr;
  /// [num_tokens, num_topk], written: physical ids; -1 for -1, for bad ids and for what pads. May
  /// be the same memory as topk_idx.
  void* physical_idx = nullptr;
  /// Where given, [num_tokens, num_topk] likewise: the rank, and physical_idx is then the slot on
  /// it (0 to slots_per_rank - 1) in place of the physical id.
  void* target_rank = nullptr;
  /// [num_ranks, PackedLayout::size()]: what each rank counted, packed (exchange.h). This rank's
  /// row is ignored: the planner puts its own count in its place. Null: the planner's exchange
  /// gathers them; where it has none, every rank has the same tokens: they are split, and mapped
  /// alike on all ranks.
  /// With staleness: of the batch before, this rank's row too. Of no effect where that batch had
  /// another PackedLayout, or there was none, but with room for this one's: it is read all the
  /// same. Null: the exchange's, or there are none.
  const std::int32_t* all_counts = nullptr;
  /// With staleness and without an exchange, [PackedLayout::size()], written: what this rank
  /// counted, for all_counts of the next batch. May be null.
  std::int32_t* packed = nullptr;
};

/// The status word: what happened since construction, and to the last batch.
struct DevicePlannerStats {
  std::int64_t batches = 0;
  std::int64_t solved = 0;        ///< split by the solver
  std::int64_t optimal = 0;       ///< of these, proven optimal
  std::int64_t degraded = 0;      ///< refused: each rank divided its own tokens evenly
  std::int64_t unplanned = 0;     ///< with staleness: divided evenly, there was nothing to split by
  std::int64_t out_of_range = 0;  ///< ids that were bad input
  std::int64_t overflows = 0;     ///< degraded: the counts of all ranks sum past 2^31 - 1
  std::int64_t bad_counts = 0;    ///< degraded: a count was negative, or of another placement
  std::int64_t lost = 0;          ///< degraded: the exchange was not complete (its stats() say why)
  std::int64_t bad_valid = 0;     ///< batches whose num_valid_tokens was clamped
  std::int64_t check_failures = 0;  ///< `checks`: what was wrong, over all batches
  BatchStatus last_status = BatchStatus::kOptimal;
  std::int64_t last_max_load = 0;  ///< T; of the last solved batch, like what follows
  std::int64_t last_lower_bound = 0;
  std::int64_t last_total = 0;  ///< tokens of all ranks
  std::int64_t last_steps = 0;
  double last_imbalance = 1;  ///< max / mean rank load
};

/// The fast loop of one rank on the device: count, exchange, solve, map. The counts of the other
/// ranks are given with each batch, or come by an exchange: then every rank runs every batch, and
/// puts a new placement into force before the same one. One planner a layer and batch in flight:
/// planners share nothing. Not thread-safe; of the device that was current at construction.
///
/// run() and update_placement() enqueue on the caller's stream and return: they do not synchronise,
/// touch another stream (but see join()) or allocate on the device; run() does not allocate at all.
/// It may be captured in a CUDA graph: replays read what the pointers then point to, and the
/// placement that update_placement() put there last. Batches and updates of one planner must follow
/// each other on the device: one stream, or events between.
///
/// Results equal those of Planner, bit for bit.
class DevicePlanner {
 public:
  /// Allocates all that later batches need. Throws ArgumentError as Planner does, and where a speed
  /// differs from another, max_tokens * num_topk passes 2^31 - 1, or a block of threads cannot hold
  /// the largest placement within the limits; CudaError where CUDA cannot be used.
  DevicePlanner(const Placement& placement, Index rank, const PlannerOptions& options,
                const DevicePlannerOptions& device_options = {});
  ~DevicePlanner();
  DevicePlanner(DevicePlanner&&) noexcept;
  DevicePlanner& operator=(DevicePlanner&&) noexcept;

  /// Plans one batch. A batch that cannot be solved (see DevicePlannerStats) is mapped all the
  /// same: each rank divides its own tokens of an expert evenly over the live replicas. Throws
  /// ArgumentError, with nothing launched, or CudaError.
  void run(StreamHandle stream, const DeviceBatch& batch);

  /// With staleness and an exchange that is not a PeerGroup's: the counts of the last batch travel
  /// beside the stream that it ran on; the next run() waits for them there. join() has `stream`
  /// wait for them: call it between a batch and a capture or a graph's launch, at the end of a
  /// capture (CUDA ends it with an error else), and before the stream of the batches changes. Else
  /// it does nothing. Throws ArgumentError for a capture that was begun without it.
  void join(StreamHandle stream);

  /// This rank's counts of a batch, packed, into `packed` [layout().size()]: for an exchange of the
  /// user's own, whose result goes into all_counts. Two kernels. Throws as run().
  void count(StreamHandle stream, const DeviceBatch& batch, std::int32_t* packed);

  /// With DevicePlannerOptions::checks: checks what run() made of its last batch once more, as
  /// `batch` now is; failures are added to the status word. `batch` is that of run(). Throws
  /// ArgumentError.
  void check(StreamHandle stream, const DeviceBatch& batch);

  /// With DevicePlannerOptions::keeps_split: writes the split of the last batch to device memory,
  /// for runtimes that map tokens themselves. `all_counts` as the batch had it: null where the
  /// planner has an exchange, whose counts are taken. One kernel. With staleness it is the split
  /// that the batch was mapped by, of the tokens of the batch before: its shares are what counts.
  /// Throws ArgumentError.
  void write_quotas(StreamHandle stream, const std::int32_t* all_counts,
                    const QuotaOutputs& outputs);

  /// For the batches that are enqueued later, replays included. Limits and errors as in
  /// Planner::update_placement(), and as in the constructor; not within a capture. May wait for the
  /// update before the last one to be copied.
  void update_placement(StreamHandle stream, const Placement& placement);

  /// Waits for the stream.
  DevicePlannerStats stats(StreamHandle stream);
  /// Does not wait: asks for a copy of the status word behind what is in the stream, and returns
  /// the newest one that has arrived. nullopt: none yet. Not within a capture.
  std::optional<DevicePlannerStats> poll_stats(StreamHandle stream);

  const Placement& placement() const;
  /// Of all_counts.
  const PackedLayout& layout() const;
  PlanShape shape() const;  ///< never kAuto
  /// Blocks, and SMs, that a batch of so many tokens takes.
  int num_blocks(std::int64_t num_tokens) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace lplb
