// SPDX-License-Identifier: MIT
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "lplb/export.h"
#include "lplb/types.h"

namespace lplb {

/// What packed counts say of the experts that have one replica.
enum class Singles {
  kSummed,  ///< a sum for each rank: enough to split by tokens
  kEach,    ///< a count for each of them: needed to split by costs
};

/// The layout of packed counts, which are what a rank tells the others: the counts of the
/// replicated experts, ascending, then those of the experts with one replica, as Singles says. For
/// a cube of 8 ranks with 256 experts and 16 redundants, sums make it 16 + 8 = 24 integers in place
/// of 256.
struct LPLB_API PackedLayout {
  std::vector<Index> replicated;  ///< logical ids, ascending; their counts come first
  std::vector<Index> home;        ///< [num_logical]: the rank of the only replica, or -1
  std::vector<Index> column;      ///< [num_logical]: where the expert's count goes
  Index num_ranks = 0;
  Index num_counts = 0;
  /// A hash of the fields above. It must be the same on all ranks that exchange.
  std::uint64_t fingerprint = 0;

  PackedLayout() = default;
  explicit PackedLayout(const Placement& placement, Singles singles = Singles::kSummed) {
    assign(placement, singles);
  }
  /// Takes another placement. Allocates only if it is larger than all before.
  void assign(const Placement& placement, Singles singles = Singles::kSummed);

  /// How many integers packed counts are.
  std::size_t size() const { return static_cast<std::size_t>(num_counts); }
  /// Packs `counts` [num_logical] into `packed` [size()]. The sum of `counts` must fit a Load.
  /// Throws ArgumentError if a length is wrong.
  void pack(std::span<const Load> counts, std::span<Load> packed) const;
};

enum class ExchangeStatus {
  kComplete,  ///< the counts of all ranks have come
  kTimedOut,  ///< a peer did not come before the deadline
};

/// How the ranks of a group learn each other's counts: an all-gather in two halves, post() and
/// collect(), which a rank calls in turn. A planner without staleness calls them one after the
/// other. With staleness it plans a batch between them.
///
/// The group has as many ranks as the placement, or as many as the placement has live ranks: see
/// Planner.
///
/// Each rank and each planner needs an object of its own. One object may be used by only one thread
/// at a time. The objects of different ranks may be used at the same time.
class LPLB_API Exchange {
 public:
  virtual ~Exchange() = default;
  virtual Index num_ranks() const = 0;  ///< of the group
  virtual Index rank() const = 0;       ///< within the group

  /// Makes room for layouts of up to `max_counts` integers, so that post() need not allocate. A
  /// planner calls it before its first batch.
  virtual void reserve(std::size_t max_counts) = 0;

  /// Hands in `mine` [layout.size()], the counts of the calling rank, without waiting for the
  /// counts of the other ranks. Every rank calls it once for each batch, with the same layout,
  /// after it has collected the previous batch. Throws ArgumentError if a length is wrong or the
  /// layout has fewer ranks than the group; then nothing is posted.
  virtual void post(const PackedLayout& layout, std::span<const Load> mine) = 0;

  /// Waits for the counts that all ranks post for the batch of this rank's last post(), and writes
  /// them to `all` [num_ranks, layout.size()], ranks in order. Returns kTimedOut if the deadline
  /// passes; `all` is then unspecified. Throws ExchangeError if the group is closed before the
  /// counts have come, or the layout of a peer differs. Throws ArgumentError if the length is wrong
  /// or nothing is posted.
  virtual ExchangeStatus collect(std::span<Load> all) = 0;

  /// post() and collect(). All arguments are checked first, so that ArgumentError means that this
  /// rank has not taken part.
  ExchangeStatus all_gather(const PackedLayout& layout, std::span<const Load> mine,
                            std::span<Load> all);
};

/// An exchange whose counts the user gives: for any transport of your own. The row of the calling
/// rank is replaced by what it counted itself.
class LPLB_API GivenCounts : public Exchange {
 public:
  /// Throws ArgumentError if num_ranks is not in 1 to kMaxRanks, or rank not in 0 to num_ranks - 1.
  GivenCounts(Index num_ranks, Index rank);
  /// Sets `counts` [num_ranks, num_logical], >= 0, for the batches that are collected from now on.
  /// A planner with staleness collects the counts of the previous batch. Throws ArgumentError if
  /// num_logical is not in 1 to kMaxPhysical, the length is wrong, a count is negative, or the sum
  /// of a rank passes 2^63 - 1.
  void set(std::span<const Load> counts, Index num_logical);

  Index num_ranks() const override { return num_ranks_; }
  Index rank() const override { return rank_; }
  void reserve(std::size_t max_counts) override { mine_.reserve(max_counts); }
  /// Throws ArgumentError if collect() was not called since the last post(), or an argument does
  /// not fit.
  void post(const PackedLayout& layout, std::span<const Load> mine) override;
  /// Always complete. Throws ArgumentError if set() was not called for this number of experts.
  ExchangeStatus collect(std::span<Load> all) override;

 private:
  Index num_ranks_;
  Index rank_;
  bool is_waiting_ = false;  // for the collect() that follows a post()
  Index num_logical_ = 0;
  std::vector<Load> counts_;
  PackedLayout layout_;  // of the counts that are posted
  std::vector<Load> mine_;
};

/// A group whose ranks are threads of one process. Make one group, and give each thread its
/// member().
///
/// Batches: the n-th post() of each rank belongs to batch n. All ranks get the same outcome of a
/// batch. It is complete when the last rank has posted, or timed out when any rank has waited for
/// `deadline` in collect(). A rank that comes to a batch that is over gets kTimedOut at once, so it
/// catches up with the others. Its counts are never mixed into a later batch.
///
/// The end: close(), the destruction of any member, or layouts that differ end the group for good.
/// From then on collect() throws ExchangeError, which says why, also on ranks that wait in it. A
/// batch that was complete before stays complete.
class LPLB_API InProcessGroup {
 public:
  /// Throws ArgumentError unless num_ranks is in 1 to kMaxRanks and `deadline` > 0.
  explicit InProcessGroup(Index num_ranks,
                          std::chrono::microseconds deadline = std::chrono::seconds(10));
  ~InProcessGroup();
  InProcessGroup(InProcessGroup&&) noexcept;
  InProcessGroup& operator=(InProcessGroup&&) noexcept;

  /// The exchange of one rank. It is handed out once, and may be used by one thread at a time.
  /// Members keep alive what they share, so the group object may be destroyed first. Throws
  /// ArgumentError if rank is out of range or its member was handed out before.
  std::shared_ptr<Exchange> member(Index rank);

  /// Ends the group, and wakes all ranks that wait. May be called from any thread.
  void close();

 private:
  struct LPLB_HIDDEN Shared;
  class LPLB_HIDDEN Member;
  std::shared_ptr<Shared> shared_;
};

}  // namespace lplb
