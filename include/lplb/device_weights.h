// SPDX-License-Identifier: MIT
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "lplb/device_exchange.h"
#include "lplb/export.h"
#include "lplb/types.h"
#include "lplb/weight_exchange.h"

namespace lplb {

/// What an expert consists of, the same for all experts of all layers.
struct DeviceWeightLayout {
  std::vector<std::size_t> tensor_bytes;    ///< 1 to 8 tensors, each of at least 1 byte; any type
  std::vector<std::size_t> gradient_sizes;  ///< elements of each gradient tensor; none, or up to 8
  GradientType gradient_type = GradientType::kFloat32;
};

struct DeviceWeightOptions {
  Index dynamic_slots = 1;  ///< S: of each rank, 1 to kMaxDynamicSlots
  /// How many times a rank has its S slots. 0: each layer has its own, which follow its main slots
  /// in memory. Otherwise layer l uses set l % slot_sets: with 1 all layers share their slots, with
  /// 2 a layer's can be filled while the layer before computes.
  Index slot_sets = 0;
  Index num_sms = 16;     ///< multiprocessors that fetch and reduce_gradients take, 1 to 1024
  Index num_buffers = 4;  ///< of 32 KiB on each of them, 2 to 6; a device may have room for fewer
  /// How long a call waits for the peers before it reads; after that, twice as long. > 0.
  std::chrono::microseconds deadline = std::chrono::seconds(10);
};

/// The arguments of a fetch. All pointers are to device memory.
struct DeviceFetch {
  const std::int32_t* slot_expert = nullptr;  ///< [num_ranks, S], as Replication::slot_expert
  const std::int32_t* slot_source = nullptr;  ///< [num_ranks, S], as Replication::slot_source
  std::int32_t* is_held = nullptr;            ///< [S], written: 1 if the slot holds what the plan
                                              ///< says, 0 if it does not or is unused; may be null
  std::int32_t* outcome = nullptr;            ///< [1], written: 0 if the call is complete; or null
};

/// Counters of one rank since construction. A call that is not complete counts once, under the
/// first reason that holds.
struct DeviceWeightStats {
  std::int64_t calls = 0;       ///< fetch() and reduce_gradients()
  std::int64_t refused = 0;     ///< the plan named what does not exist, or nothing was fetched
  std::int64_t mismatched = 0;  ///< the ranks' plans, layers or calls differ
  std::int64_t timed_out = 0;   ///< a peer did not come before the deadline
  std::int64_t behind = 0;      ///< a peer had given the call up
  std::int64_t failed = 0;      ///< a peer lacks what it needed
  std::int64_t copied = 0;      ///< experts that came into dynamic slots
  std::int64_t skipped = 0;     ///< slots in use that still held the expert
  std::int64_t bytes = 0;       ///< of the copied experts
  Index last_missing = -1;  ///< a member that the last incomplete call lacked; -1: none is known
  std::int64_t complete() const {
    return calls - refused - mismatched - timed_out - behind - failed;
  }
};

/// One rank's weights on its GPU, and the copies of others' in its dynamic slots: the twin of
/// WeightExchange for kernels. It owns one buffer that the peers map, by the transports of
/// PeerGroup (docs/transports.md). The weights of the main slots and the gradients of the dynamic
/// slots lie in it: main(), dynamic() and dynamic_gradients() say where, and the engine puts its
/// tensors there.
///
/// fetch() and reduce_gradients() are collective: every rank enqueues them in the same order, as
/// often as the others, also if none of its slots is used. They do not wait on the host, may be
/// captured in graphs, and must follow each other on the device (one stream, or events). Work that
/// writes weights of main slots must be ordered between two calls, and be followed by update()
/// before the next fetch(). Work that reads dynamic slots must be ordered before the next fetch()
/// into that set, and work that uses the gradients before the next reduce_gradients().
///
/// Why nothing is read half-written, and nothing is overwritten while it is read:
///
/// 1. A call of a rank begins with a word to its peers and ends when all have told it that they
///    read no more. Between two calls nobody reads its memory, so its own stream may write there.
/// 2. A rank reads from a peer only after that peer's word of the same call.
/// 3. After its deadline a rank leaves a call without the others' words. It tells them so before
/// its
///    kernel ends. A reader looks at that word after it has read: if the source had left, the slot
///    counts as empty, whatever is in it.
/// 4. Dynamic slots are written by their own rank's fetch() only.
///
/// A call is complete on a rank (outcome 0) when all ranks have said, in time, that they have what
/// they need. Ranks may see the same call end differently. If it is complete on any rank, the
/// dynamic slots of all ranks hold what the plan says. So a rank may send tokens to dynamic slots
/// of any rank if the outcome is 0; and if a token comes to a slot whose is_held is 1, the rank may
/// compute it whatever the outcome. A slot is never held half copied, or with weights that its
/// source has changed meanwhile. The next call is complete again if all ranks come in time. A
/// process that ended does not come back.
///
/// The placements stay as they are; for other ones make another object.
///
/// Not thread-safe. Like a PeerGroup, it may be destroyed only when no call of any rank is under
/// way: wait for the device, a barrier of the ranks, disconnect(), another barrier, the destructor.
class LPLB_API DeviceWeightExchange {
 public:
  /// The device memory in bytes that a rank takes. Throws ArgumentError as connect().
  static std::size_t buffer_bytes(std::span<const Placement> layers,
                                  const DeviceWeightLayout& layout,
                                  const DeviceWeightOptions& options);

  /// Ranks that are processes, each on its current device. Collective; see PeerGroup::connect().
  /// `layers` are the placements of the layers, with the same numbers of ranks and experts, equal
  /// on all ranks. `rank` is that of the placements; the group has all ranks or, in their order,
  /// the live ones: num_members says which. Throws ArgumentError if an argument is wrong, and on
  /// all ranks ExchangeError if arguments differ or no transport works.
  static std::unique_ptr<DeviceWeightExchange> connect(Index rank, Index num_members,
                                                       const AllGatherBytes& all_gather,
                                                       std::span<const Placement> layers,
                                                       const DeviceWeightLayout& layout,
                                                       const DeviceWeightOptions& options,
                                                       const ConnectOptions& how = {});

  /// All members in one process, member i on `devices[i]`. The kernels of ranks on one device must
  /// be able to run at the same time: see PeerGroup::in_process(); and all blocks of all of them
  /// must fit (num_sms each).
  static std::vector<std::unique_ptr<DeviceWeightExchange>> in_process(
      std::span<const int> devices, std::span<const Placement> layers,
      const DeviceWeightLayout& layout, const DeviceWeightOptions& options);

  /// Memory that the user owns, such as PyTorch's symmetric memory: `buffers` [num_members] as in
  /// PeerGroup::from_pointers(), of buffer_bytes() bytes each.
  static std::unique_ptr<DeviceWeightExchange> from_pointers(Index rank,
                                                             std::span<void* const> buffers,
                                                             std::span<const Placement> layers,
                                                             const DeviceWeightLayout& layout,
                                                             const DeviceWeightOptions& options);

  ~DeviceWeightExchange();
  DeviceWeightExchange(const DeviceWeightExchange&) = delete;
  DeviceWeightExchange& operator=(const DeviceWeightExchange&) = delete;

  /// Tensor `tensor` of the experts in a layer's main slots: [M, stride(tensor) bytes], zero at
  /// first. With slot_sets 0 the dynamic slots follow: [M + S, stride(tensor) bytes].
  void* main(Index layer, Index tensor) const;
  /// The same of the layer's dynamic slots: [S, stride(tensor) bytes].
  void* dynamic(Index layer, Index tensor) const;
  /// The distance between two slots: tensor_bytes, rounded up to a multiple of 16.
  std::size_t stride(Index tensor) const;
  /// Gradient tensor `tensor` of the layer's dynamic slots: [S, gradient_sizes[tensor]].
  void* dynamic_gradients(Index layer, Index tensor) const;
  Transport transport() const;
  std::size_t bytes() const;  ///< of device memory

  /// Brings the experts of the plan into the layer's dynamic slots on this rank, by one kernel of
  /// num_sms blocks that reads the plan on the device. All ranks give the same plan. A slot that
  /// holds the same version of the same source's weights is left as it is. A plan that names a rank
  /// or an expert that its source does not have is refused: outcome and stats() say so. Throws
  /// ArgumentError if the layer does not exist or a pointer is null; CudaError.
  void fetch(StreamHandle stream, Index layer, const DeviceFetch& fetch);

  /// Says that the weights of `num_slots` main slots from `first_slot` on have changed, so that
  /// slots that hold them are filled again. One small kernel. Throws ArgumentError; CudaError.
  void update(StreamHandle stream, Index layer, Index first_slot, Index num_slots);

  /// Adds the gradients of the copies of the last fetch() into the layer's slots to those of their
  /// sources, by one kernel of num_sms blocks. `main_gradients`: for each gradient tensor [M,
  /// gradient_sizes[i]] of this rank's main slots, aligned to 16 bytes. The order of the sums is
  /// the source's own, then the ranks in order, in float32; bfloat16 is rounded once, to the
  /// nearest, ties to even: as WeightExchange does it, bit for bit unless a sum is NaN. `outcome`
  /// [1] on the device, or null: 0 if complete; otherwise these gradients are unspecified. It is
  /// refused if the last fetch into these slots was of another layer, or not complete. Throws
  /// ArgumentError if there are no gradients or a pointer is wrong; CudaError.
  void reduce_gradients(StreamHandle stream, Index layer, std::span<void* const> main_gradients,
                        std::int32_t* outcome = nullptr);

  /// Waits for the stream. Throws CudaError.
  DeviceWeightStats stats(StreamHandle stream);

  /// Unmaps the peers' memory: see PeerGroup::disconnect().
  void disconnect();

  struct LPLB_HIDDEN State;

 private:
  explicit DeviceWeightExchange(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace lplb
