// SPDX-License-Identifier: MIT
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "lplb/exchange.h"
#include "lplb/export.h"
#include "lplb/replicate.h"
#include "lplb/types.h"

namespace lplb {

enum class GradientType { kFloat32, kBFloat16 };

/// What an expert's weights and gradients are, the same for all experts of a layer.
struct WeightLayout {
  std::vector<std::size_t> tensor_bytes;  ///< of each tensor of an expert, >= 1; any type
  std::size_t num_gradients = 0;          ///< elements of an expert's gradients; 0: none
  GradientType gradient_type = GradientType::kFloat32;
};

/// Where a rank has its experts, M main slots and S dynamic slots. The memory is the caller's, and
/// must stay until the rank's WeightExchange is destroyed.
struct WeightBuffers {
  std::vector<std::vector<void*>> main;     ///< [M][tensors]
  std::vector<std::vector<void*>> dynamic;  ///< [S][tensors]
  std::vector<void*> main_gradients;        ///< [M]; empty if num_gradients is 0
  std::vector<void*> dynamic_gradients;     ///< [S]; empty if num_gradients is 0
};

/// Counters of one rank since construction.
struct WeightStats {
  std::int64_t copied = 0;     ///< experts that came into its dynamic slots
  std::int64_t skipped = 0;    ///< slots in use that still held the expert
  std::int64_t bytes = 0;      ///< of the copied experts
  std::int64_t timed_out = 0;  ///< calls that ended with kTimedOut
};

/// One rank's part in moving the weights of copies, and their gradients back. Each rank is a thread
/// of one process; InProcessWeights makes the ranks' objects. Not thread-safe.
///
/// fetch() and reduce_gradients() are collective: every live rank calls them in the same order, as
/// often as the others. A call ends alike on all ranks: with kComplete on all, or with kTimedOut if
/// some rank did not come before the deadline. A rank that comes later gets kTimedOut at once, and
/// is with the others again in the next call. If a rank's object is destroyed, calls of the others
/// throw ExchangeError from then on.
///
/// Why nothing is read half-written: weights of main slots are written within update() only, which
/// keeps readers out; dynamic slots are written by their own rank, within fetch() only; and a rank
/// reads the gradients of others from copies that these handed in.
class LPLB_API WeightExchange {
 public:
  ~WeightExchange();
  WeightExchange(const WeightExchange&) = delete;
  WeightExchange& operator=(const WeightExchange&) = delete;

  /// Brings the experts of `plan.slot_expert` from `plan.slot_source` into this rank's dynamic
  /// slots. All ranks give the same plan, such as Planner::last_copies(). A slot that holds the
  /// same version of the same source's weights is left as it is.
  ///
  /// kComplete: all slots in use, on all ranks, hold what the plan says. kTimedOut: no rank may use
  /// its dynamic slots for this batch (Planner::run_alone()). They hold whole experts or count as
  /// empty, so the next fetch() is right in any case.
  ///
  /// Throws ArgumentError if the plan does not fit the placement, and ExchangeError if the ranks'
  /// plans differ or a rank has left. Copies the bytes of the experts; two rounds of the group.
  ExchangeStatus fetch(const Replication& plan);

  /// Changes weights of this rank's main slots `main_slots` (0 to M - 1): calls `change` while
  /// nobody reads them, and gives these slots a new version, so that the next fetch() brings them.
  /// Waits for readers. An exception of `change` comes out, and the versions are new all the same.
  void update(std::span<const Index> main_slots, const std::function<void()>& change);

  /// Adds the gradients of the copies of the last fetch(), if it was complete, to those of their
  /// sources: for each main slot its own, then those of the ranks in order, in float32. With
  /// kBFloat16 the sum is rounded once, to the nearest, ties to even. An expert that several ranks
  /// have in main slots is not summed over these.
  ///
  /// kTimedOut: the gradients of this rank's main slots are unspecified. Throws ArgumentError if
  /// there are no gradients or nothing was fetched, ExchangeError if a rank has left.
  ExchangeStatus reduce_gradients();

  const WeightStats& stats() const;

  struct LPLB_HIDDEN State;

 private:
  friend class InProcessWeights;
  explicit WeightExchange(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

/// The ranks of a layer, which are threads of one process. Make one, and give each thread its
/// member().
class LPLB_API InProcessWeights {
 public:
  /// Throws ArgumentError if make_placement() did not make `placement`, dynamic_slots is not in 1
  /// to kMaxDynamicSlots, `layout` has no tensor or one of 0 bytes, or `deadline` is not > 0.
  InProcessWeights(const Placement& placement, Index dynamic_slots, const WeightLayout& layout,
                   std::chrono::microseconds deadline = std::chrono::seconds(10));
  ~InProcessWeights();
  InProcessWeights(InProcessWeights&&) noexcept;
  InProcessWeights& operator=(InProcessWeights&&) noexcept;

  /// The part of one live rank, which is handed out once. Members keep alive what they share, so
  /// the group object may be destroyed first. Throws ArgumentError if the rank is out of range or
  /// dead, its member was handed out before, or `buffers` does not fit the layout.
  std::unique_ptr<WeightExchange> member(Index rank, const WeightBuffers& buffers);

  struct LPLB_HIDDEN Shared;

 private:
  std::shared_ptr<Shared> shared_;
};

}  // namespace lplb
