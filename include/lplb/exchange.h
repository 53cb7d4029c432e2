// SPDX-License-Identifier: MIT
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "lplb/types.h"

namespace lplb {

/// What a rank tells the others of its counts: those of the replicated experts, then for each rank
/// the sum over the experts that have one replica, there. 24 integers for a cube of 8 with 16
/// replicas, where the full counts are 256.
struct PackedLayout {
  std::vector<Index> replicated;  ///< logical ids, ascending; their counts come first
  std::vector<Index> home;        ///< [num_logical]: rank of a single-replica expert, else -1
  Index num_ranks = 0;
  /// Hash of the above: ranks that exchange must agree on it.
  std::uint64_t fingerprint = 0;

  PackedLayout() = default;
  explicit PackedLayout(const Placement& placement) { assign(placement); }
  /// Allocates only where it outgrows what it held.
  void assign(const Placement& placement);

  std::size_t size() const { return replicated.size() + static_cast<std::size_t>(num_ranks); }
  /// `counts` [num_logical] -> `packed` [size()]. The sum of `counts` must fit a Load.
  void pack(std::span<const Load> counts, std::span<Load> packed) const;
};

enum class ExchangeStatus {
  kComplete,  ///< every rank's counts are there
  kTimedOut,  ///< a peer did not come before the deadline
};

/// How the ranks of an EP group learn each other's counts. One object a rank and planner.
///
/// An all-gather in two halves: post() and collect(), in turn. A planner without staleness calls
/// one right behind the other; with it, it plans a batch between them.
class Exchange {
 public:
  virtual ~Exchange() = default;
  virtual Index num_ranks() const = 0;
  virtual Index rank() const = 0;

  /// Makes room for layouts of up to `max_counts` integers, so that post() need not. A planner
  /// calls it before its first batch.
  virtual void reserve(std::size_t max_counts) = 0;

  /// Hands in `mine` [layout.size()], the calling rank's counts, without waiting for the others.
  /// Every rank calls it once a batch, with the same layout. Throws ArgumentError where lengths are
  /// wrong; then there is nothing to collect.
  virtual void post(const PackedLayout& layout, std::span<const Load> mine) = 0;

  /// The counts that all ranks have posted in this rank's last batch, into `all` [num_ranks,
  /// layout.size()], ranks in order; waits for them. kTimedOut, with `all` unspecified, where the
  /// batch's deadline passed. Throws ExchangeError where the group is closed before they are there
  /// or a peer's layout differs, ArgumentError where the length is wrong or nothing is posted.
  virtual ExchangeStatus collect(std::span<Load> all) = 0;

  /// Both, with all arguments checked first.
  ExchangeStatus all_gather(const PackedLayout& layout, std::span<const Load> mine,
                            std::span<Load> all);
};

/// Counts given by the user, from whatever transport there is. What the calling rank counted itself
/// replaces its own row.
class GivenCounts : public Exchange {
 public:
  GivenCounts(Index num_ranks, Index rank);
  /// `counts` [num_ranks, num_logical], all >= 0, for the batches that are collected from now on: a
  /// planner with staleness collects those of the batch before. Throws ArgumentError.
  void set(std::span<const Load> counts, Index num_logical);

  Index num_ranks() const override { return num_ranks_; }
  Index rank() const override { return rank_; }
  void reserve(std::size_t max_counts) override { mine_.reserve(max_counts); }
  void post(const PackedLayout& layout, std::span<const Load> mine) override;
  /// Always complete. Throws ArgumentError where set() was not called for this many experts.
  ExchangeStatus collect(std::span<Load> all) override;

 private:
  Index num_ranks_;
  Index rank_;
  Index num_logical_ = 0;
  std::vector<Load> counts_;
  PackedLayout layout_;  // of what is posted
  std::vector<Load> mine_;
};

/// Ranks that are threads of one process: make one group, give each thread its member().
///
/// Batches: the n-th post() of each rank belongs to batch n. All ranks get the same outcome of a
/// batch: complete, once the last rank has posted; or timed out, once any rank has waited for
/// `deadline` in collect(). A rank that comes to a batch that is over gets kTimedOut at once, so
/// that it catches up with the others; its counts are never mixed into a later batch.
///
/// The end: close(), the end of any member, and layouts that differ end the group for good. Calls
/// that wait and calls that come throw ExchangeError, which says why; a batch that was complete
/// before stays so.
class InProcessGroup {
 public:
  /// Throws ArgumentError unless num_ranks is in 1 to kMaxRanks and `deadline` > 0.
  explicit InProcessGroup(Index num_ranks,
                          std::chrono::microseconds deadline = std::chrono::seconds(10));
  ~InProcessGroup();
  InProcessGroup(InProcessGroup&&) noexcept;
  InProcessGroup& operator=(InProcessGroup&&) noexcept;

  /// The exchange of one rank, handed out once; to be used by one thread at a time. Members keep
  /// what they share alive: the group object may go first. Throws ArgumentError.
  std::shared_ptr<Exchange> member(Index rank);

  /// From any thread; wakes all ranks that wait.
  void close();

 private:
  struct Shared;
  class Member;
  std::shared_ptr<Shared> shared_;
};

}  // namespace lplb
