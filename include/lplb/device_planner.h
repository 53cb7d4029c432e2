// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "lplb/device_exchange.h"
#include "lplb/export.h"
#include "lplb/planner.h"
#include "lplb/quotas.h"
#include "lplb/types.h"

namespace lplb {

/// How a batch is launched.
enum class PlanShape {
  kAuto,     ///< kCluster if the device has clusters (compute capability 9.0), else kKernels
  kCluster,  ///< one kernel, whose blocks are one cluster
  kKernels,  ///< three kernels: count, solve, map; each may start before the previous one ends
};

struct DevicePlannerOptions {
  PlanShape shape = PlanShape::kAuto;
  int max_blocks = 8;  ///< most blocks (SMs) of a launch: 1, 2, 4 or 8. Small batches take fewer
  /// A further kernel checks each batch, from first principles: every token is at a live replica of
  /// its expert, each replica has the tokens of this rank that the rules give it, over all ranks
  /// every quota is met, and no rank exceeds the reported load. Slow.
  bool checks = false;
  /// Keep in device memory what write_quotas() needs of each batch.
  bool keeps_split = false;
  /// How the planner learns the counts of the other ranks. Null: they are given with each batch. A
  /// channel of a PeerGroup runs within the plan's kernel. Any other exchange runs between a kernel
  /// that counts and one that plans, or, with staleness, after the plan on a stream of the
  /// planner's own; what it gathers counts as complete. The exchange must have room for the counts
  /// of the largest placement, and be of all ranks of the placement or of the live ones, as with
  /// Planner. Only this planner may use it.
  std::shared_ptr<DeviceExchange> exchange;
  /// Without an exchange: how many ranks have a row in DeviceBatch::all_counts. 0: all ranks.
  /// Otherwise the number of live ranks: rows are then those of the live ranks, in order.
  Index num_members = 0;
};

/// One rank's batch. All pointers are to device memory; those to ids are aligned to `id_bytes`, all
/// others to 4. A pointer may be null:
///
/// | null | what it means |
/// |---|---|
/// | `topk_idx`, `physical_idx` | allowed only if `num_tokens` is 0 |
/// | `num_valid_tokens` | all tokens are real, none is padding |
/// | `target_rank` | `physical_idx` gets physical ids; otherwise slots on the ranks |
/// | `packed` | this rank's counts are not wanted |
///
/// What `all_counts` means depends on the planner:
///
/// | planner | given | null |
/// |---|---|---|
/// | with an exchange | not allowed | the exchange gathers the counts |
/// | no exchange, staleness 0 | what the ranks counted in this batch | all have the same tokens |
/// | no exchange, staleness 1 | what they counted in the previous one | the batch is unplanned |
///
/// With staleness 0, this rank's row of `all_counts` is ignored: the planner uses its own count. If
/// all ranks have the same tokens, these are split and mapped in the same way on all ranks.
///
/// With staleness 1, this rank's row is used. If the previous batch had another PackedLayout, or
/// there was no previous batch, the contents are ignored. The buffer must still be large enough for
/// the current layout, because the kernel reads it before it knows.
struct DeviceBatch {
  const void* topk_idx = nullptr;  ///< [num_tokens, num_topk]: logical ids; -1 is dropped
  int id_bytes = 4;                ///< bytes of an id, read or written: 4 or 8
  std::int64_t num_tokens = 0;     ///< >= 0; at most max_tokens * options' num_topk entries
  Index num_topk = 0;              ///< entries of a token; 0: PlannerOptions::num_topk
  /// [1]: how many of the tokens are real. The others are padding: not counted, and mapped to -1. A
  /// value outside 0 to num_tokens is clamped, and counted in DevicePlannerStats::bad_valid.
  const std::int32_t* num_valid_tokens = nullptr;
  /// [num_tokens, num_topk], written: physical ids; -1 for -1, for bad ids and for padding. May be
  /// the same memory as topk_idx.
  void* physical_idx = nullptr;
  /// [num_tokens, num_topk], written: the rank of each entry, or -1. physical_idx then gets the
  /// slot on the rank (0 to slots_per_rank - 1) in place of the physical id.
  void* target_rank = nullptr;
  /// [num_ranks, PackedLayout::size()]: what each rank counted, packed (exchange.h). See above.
  /// With DevicePlannerOptions::num_members there are that many rows.
  const std::int32_t* all_counts = nullptr;
  /// [PackedLayout::size()], written: what this rank counted, packed, for all_counts of the next
  /// batch. Only with staleness 1 and without an exchange; otherwise it must be null.
  std::int32_t* packed = nullptr;
  /// [1], of `counter_bytes` 4 or 8, aligned to that: grows by `counter_step` if the batch is
  /// solved. Null: nothing is counted.
  void* counter = nullptr;
  int counter_bytes = 4;
  Index counter_step = 1;
};

/// The status word: what happened since construction, and to the last batch.
struct DevicePlannerStats {
  std::int64_t batches = 0;
  std::int64_t solved = 0;        ///< split by the solver
  std::int64_t optimal = 0;       ///< of these, proven optimal
  std::int64_t degraded = 0;      ///< not solved: the rank divided its own tokens evenly
  std::int64_t unplanned = 0;     ///< with staleness: no previous batch to split by
  std::int64_t out_of_range = 0;  ///< bad ids
  std::int64_t overflows = 0;     ///< degraded: the counts of all ranks sum past 2^31 - 1
  /// degraded: a count was negative, or of another placement. An exchange along rails that lacks
  /// counts gives -1 in place of all counts, so it counts here; its stats() say why.
  std::int64_t bad_counts = 0;
  /// degraded: the exchange in the kernel was incomplete; its stats() say why
  std::int64_t lost = 0;
  std::int64_t bad_valid = 0;       ///< batches whose num_valid_tokens was clamped
  std::int64_t check_failures = 0;  ///< with `checks`: errors found in all batches
  BatchStatus last_status = BatchStatus::kOptimal;
  std::int64_t last_max_load = 0;  ///< T. This and what follows: of the last solved batch
  std::int64_t last_lower_bound = 0;
  std::int64_t last_total = 0;  ///< tokens of all ranks
  std::int64_t last_steps = 0;
  double last_imbalance = 1;  ///< as imbalance() of the placement
  double last_max_cost = 0;   ///< with a cost, in its unit: the largest cost of a rank
  double last_cost_lower_bound = 0;
  std::int64_t copies = 0;  ///< with dynamic slots: of experts, over all batches and ranks
};

/// What the dynamic slots hold for the last batch, in device memory: [num_ranks, S], the same on
/// all ranks. Every batch writes it, so kernels that follow it on the stream may read it. Null
/// without dynamic slots.
struct DeviceCopies {
  const std::int32_t* slot_expert = nullptr;  ///< the expert in each slot, -1: unused
  const std::int32_t* slot_source = nullptr;  ///< the rank that sends it, -1: unused
  /// 1: the slot is in use and holds another expert than after the batches before, so that its
  /// weights must come. A slot keeps what it holds while it is not in use; a degraded batch and
  /// update_placement() empty all slots.
  const std::int32_t* slot_is_new = nullptr;
};

/// The fast loop of one rank on the device: count, exchange, solve, map. Results equal those of
/// Planner, bit for bit.
///
/// The counts of the other ranks are given with each batch, or an exchange brings them. With an
/// exchange, every rank must run every batch, and must put a new placement into force before the
/// same batch as the others. Use one planner for each layer and batch in flight; planners share
/// nothing. Not thread-safe. A planner uses the device that was current at construction.
///
/// run() and update_placement() enqueue on the caller's stream and return. They do not synchronise,
/// use another stream (join() names the exception), or allocate on the device; run() does not
/// allocate at all. run() may be captured in a CUDA graph. A replay reads what the pointers point
/// to at that time, and uses the placement of the last update_placement(). Batches and updates of
/// one planner must follow each other on the device: one stream, or events between streams.
class LPLB_API DevicePlanner {
 public:
  /// Allocates all memory that later batches need.
  ///
  /// Throws ArgumentError as Planner does, and if the solver is kIpm, which the plan's kernel does
  /// not have; if speeds differ, max_tokens * num_topk is 2^31 or more, a block of threads cannot
  /// hold the largest placement within the limits, a device option is out of range, or the exchange
  /// does not fit. With dynamic slots also as DeviceReplicator does, and with `checks` or
  /// PlanShape::kKernels: a batch of several blocks needs clusters (compute capability 9.0). Throws
  /// CudaError if CUDA cannot be used.
  DevicePlanner(const Placement& placement, Index rank, const PlannerOptions& options,
                const DevicePlannerOptions& device_options = {});
  ~DevicePlanner();
  DevicePlanner(DevicePlanner&&) noexcept;
  DevicePlanner& operator=(DevicePlanner&&) noexcept;

  /// Plans one batch. A batch that cannot be solved (see DevicePlannerStats) is mapped, too: the
  /// rank divides its own tokens of an expert evenly over the live replicas.
  ///
  /// Cost: the launch of one kernel, or of three (PlanShape::kKernels); the host does not wait. An
  /// exchange that is not a PeerGroup's adds its own launches, and, with staleness 0, two kernels
  /// that count. On an H200, a batch of 4096 tokens x top 8 on a cube of 8 ranks takes 8.6 us with
  /// given counts (median; bench/RESULTS.md).
  ///
  /// Throws ArgumentError, with nothing launched, CudaError, or what the exchange's all_gather()
  /// throws.
  void run(StreamHandle stream, const DeviceBatch& batch);

  /// Makes `stream` wait for the counts of the last batch. It is needed only with staleness 1 and
  /// an exchange that is not a PeerGroup's; otherwise it does nothing. The counts then travel on a
  /// stream of the planner's own, in parallel with the stream of the batch, and the next run()
  /// makes its stream wait for them. Call join():
  ///
  /// - between a batch and a capture, or the launch of a graph;
  /// - at the end of a capture, because otherwise CUDA ends it with an error;
  /// - before the batches move to another stream.
  ///
  /// Throws ArgumentError if `stream` is being captured and the batch before the capture was not
  /// joined, or CudaError.
  void join(StreamHandle stream);

  /// Writes this rank's counts of a batch, packed, to `packed` [layout().size()], for an exchange
  /// of your own, whose result goes into all_counts. Two kernels. Throws ArgumentError, with
  /// nothing launched, or CudaError.
  void count(StreamHandle stream, const DeviceBatch& batch, std::int32_t* packed);

  /// Only with DevicePlannerOptions::checks: checks once more what run() made of its last batch,
  /// with the present contents of `batch`, which must be that of run(). Failures are added to the
  /// status word. One kernel. Throws ArgumentError or CudaError.
  void check(StreamHandle stream, const DeviceBatch& batch);

  /// Only with DevicePlannerOptions::keeps_split: writes the split of the last batch to device
  /// memory, for runtimes that map tokens themselves. `all_counts` as in the batch; null if the
  /// planner has an exchange. With staleness, the split is the one by which the batch was mapped,
  /// of the tokens of the previous batch, so use its shares. One kernel. Throws ArgumentError or
  /// CudaError.
  void write_quotas(StreamHandle stream, const std::int32_t* all_counts,
                    const QuotaOutputs& outputs);

  /// Puts another placement into force for batches that are enqueued later, and for later replays.
  /// Limits and errors as in Planner::update_placement() and in the constructor. Must not be
  /// captured. It may wait until the update before the previous one is copied. With dynamic slots
  /// the placement must have as many slots a rank as the first one.
  void update_placement(StreamHandle stream, const Placement& placement);

  /// The status word. Waits for the stream. Throws ArgumentError if the stream is being captured,
  /// or CudaError.
  DevicePlannerStats stats(StreamHandle stream);
  /// The status word, without a wait: enqueues a copy of it, unless one is under way, and returns
  /// the newest copy that has arrived; nullopt if none has. Errors as in stats().
  std::optional<DevicePlannerStats> poll_stats(StreamHandle stream);

  /// The addresses of what dynamic slots hold. They stay the same for the planner's life.
  DeviceCopies copies() const;

  const Placement& placement() const;
  /// The layout of a row of DeviceBatch::all_counts, for the placement of the last
  /// update_placement().
  const PackedLayout& layout() const;
  PlanShape shape() const;  ///< never kAuto
  /// How many blocks, each on an SM, a batch of `num_tokens` tokens takes.
  int num_blocks(std::int64_t num_tokens) const;

 private:
  struct LPLB_HIDDEN State;
  std::unique_ptr<State> state_;
};

}  // namespace lplb
