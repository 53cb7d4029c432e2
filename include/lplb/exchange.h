// SPDX-License-Identifier: MIT
#pragma once

#include <chrono>
#include <memory>
#include <span>
#include <vector>

#include "lplb/types.h"

namespace lplb {

/// What a rank tells the others of its counts: those of the replicated experts, then for each rank
/// the sum over the experts that live there alone. 24 integers for a cube of 8 with 16 replicas,
/// where the full counts are 256.
struct PackedLayout {
  std::vector<Index> replicated;  ///< logical ids, ascending; their counts come first
  std::vector<Index> home;        ///< [num_logical]: rank of a single-replica expert, else -1
  Index num_ranks = 0;

  explicit PackedLayout(const Placement& placement);
  std::size_t size() const { return replicated.size() + static_cast<std::size_t>(num_ranks); }
  /// `counts` [num_logical] -> `packed` [size()].
  void pack(std::span<const Load> counts, std::span<Load> packed) const;
};

enum class ExchangeStatus {
  kComplete,  ///< every rank's counts are there
  kTimedOut,  ///< a peer did not come before the deadline
};

/// How the ranks of an EP group learn each other's counts. One object a rank and planner.
class Exchange {
 public:
  virtual ~Exchange() = default;
  virtual Index num_ranks() const = 0;
  /// All-gather: `mine` [layout.size()] of the calling rank into `all` [num_ranks, layout.size()],
  /// ranks in order. Every rank must call it once a batch, with the same layout. Returns kTimedOut
  /// past the deadline; throws ExchangeError where the group is closed or a peer's layout differs.
  virtual ExchangeStatus all_gather(const PackedLayout& layout, std::span<const Load> mine,
                                    std::span<Load> all) = 0;
};

/// Counts given by the user before each batch: of all ranks, [num_ranks, num_logical]. The calling
/// rank's own row is replaced by what it counted itself.
class GivenCounts : public Exchange {
 public:
  explicit GivenCounts(Index num_ranks) : num_ranks_(num_ranks) {}
  void set(std::span<const Load> counts, Index num_logical);

  Index num_ranks() const override { return num_ranks_; }
  ExchangeStatus all_gather(const PackedLayout& layout, std::span<const Load> mine,
                            std::span<Load> all) override;

 private:
  Index num_ranks_;
  std::vector<Load> counts_;
};

/// Ranks that are threads of one process: make one group, give each thread its member().
class InProcessGroup {
 public:
  explicit InProcessGroup(Index num_ranks,
                          std::chrono::microseconds deadline = std::chrono::seconds(10));
  ~InProcessGroup();

  /// The exchange of one rank; the group's memory lives as long as any member.
  std::shared_ptr<Exchange> member(Index rank);

 private:
  struct Shared;
  std::shared_ptr<Shared> shared_;
};

}  // namespace lplb
