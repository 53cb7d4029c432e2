// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "lplb/types.h"

namespace lplb::placement {

/// The ranks and slots of one layer that homes are placed on: the live ranks, renumbered.
struct HomesShape {
  Index num_ranks = 0;
  Index slots = 0;  ///< of a rank
  Index num_logical = 0;
  std::vector<std::int64_t> speed;  ///< [num_ranks], in 1 / kUnitSpeed; empty: all are equal

  Index num_slots() const { return num_ranks * slots; }
};

inline constexpr std::int64_t kUnitSpeed = 1 << 16;

/// The loads of a batch are scaled so that they sum to this, or to a little less.
inline constexpr std::int64_t kBatchLoad = std::int64_t{1} << 30;

/// Another expert in a slot. At most kMaxEdits are made at once.
struct SlotEdit {
  Index slot;
  Index expert;
};
inline constexpr int kMaxEdits = 2;

/// Says what a placement is worth, summed over the batches of a window, and what it would be worth
/// after few changes. Less is better.
class HomesJudge {
 public:
  virtual ~HomesJudge() = default;

  /// Takes a placement [num_slots] in which every expert is on a rank, and on none twice.
  virtual void assign(std::span<const Index> experts) = 0;
  virtual Index num_batches() const = 0;
  virtual const std::vector<Index>& experts() const = 0;
  /// The value: a weighted sum of largest loads / speeds. A perfect placement's is the weighted sum
  /// of the batches' loads, divided by all speeds together.
  virtual std::int64_t value() const = 0;
  /// The largest load / speed in `batch`, without its weight.
  virtual std::int64_t level(Index batch) const = 0;
  virtual bool is_on(Index expert, Index rank) const = 0;

  /// Whether one more replica of `expert`, on `rank`, could lower value(), by more than what rounds
  /// capacities of unequal speeds.
  virtual bool may_gain(Index expert, Index rank) const = 0;
  /// What value() is at least after `edits`, which leave every expert on a rank.
  virtual std::int64_t bound(std::span<const SlotEdit> edits) = 0;
  /// Makes the edits and returns true if value() is then at most `limit`. Otherwise nothing
  /// changes.
  virtual bool try_edits(std::span<const SlotEdit> edits, std::int64_t limit) = 0;
};

/// Judges by the exact split. It keeps a flow for each batch: a split whose
/// largest load / speed is the least. After an edit the flow is repaired by augmenting paths, in
/// place of a new solve. If a path is missing, the ranks that cannot give tokens away are a cut,
/// which proves how high the load must be. The judge keeps many cuts. They bound what an edit can
/// do without any flow, in a tenth of a microsecond; most edits need no more than that.
///
/// Everything that decides is an integer, or a double that is the product of two, so the result is
/// the same on every machine.
class WindowJudge final : public HomesJudge {
 public:
  /// `load` [batches, num_logical]: each row sums to at most kBatchLoad. `weight` [batches]: how
  /// much a batch counts.
  WindowJudge(const HomesShape& shape, std::vector<std::int32_t> load,
              std::vector<std::int64_t> weight);

  /// Entries of -1 are empty slots. It would also take experts that are on a rank twice.
  void assign(std::span<const Index> experts) override;

  Index num_batches() const override { return num_batches_; }
  const std::vector<Index>& experts() const override { return expert_; }
  /// The weighted sum of the batches' least maxima of load / speed.
  std::int64_t value() const override { return value_; }
  std::int64_t level(Index batch) const override { return states_[batch].level; }
  bool is_on(Index expert, Index rank) const override;

  /// For a gain, some batch's highest cut must have all the expert's ranks, and not this one.
  bool may_gain(Index expert, Index rank) const override;
  std::int64_t bound(std::span<const SlotEdit> edits) override;
  bool try_edits(std::span<const SlotEdit> edits, std::int64_t limit) override;

 private:
  struct State {                     // the flow of one batch
    std::vector<std::int32_t> take;  // [num_slots]: tokens that each slot takes
    std::vector<std::int64_t> load;  // [num_ranks]
    std::int64_t level = 0;
  };
  struct Cut {                   // a set of ranks
    std::vector<char> member;    // [num_ranks]
    std::vector<Index> outside;  // [num_logical]: the expert's ranks that are not in the set
    std::vector<std::int64_t>
        inside;                 // [num_batches]: load of the experts with all ranks in the set
    std::vector<double> level;  // [num_batches]: inside / speed
    double inverse_speed = 0;   // of the set
    std::int64_t last_use = 0;
  };

  std::int64_t capacity(Index rank, std::int64_t level) const;
  std::int64_t least_level(const std::vector<Index>& ranks, std::int64_t load) const;
  void put(Index slot, Index expert);
  void lift(Index slot);
  void drop_tokens(Index slot, State& state) const;
  void carry(std::int32_t tokens, Index from, Index to, State& state) const;
  bool solve(State& state, std::int64_t most);
  Index find_path(Index rank, const State& state);
  void push(Index rank, Index end, State& state) const;
  void keep_cut(const std::vector<Index>& ranks);
  void lower_by_cut(const Cut& cut, std::span<const SlotEdit> edits);
  void move_cuts(Index rank, Index expert, Index by);
  void find_highest();
  std::int32_t want(Index batch, Index expert) const {
    return want_[std::size_t{1} * batch * shape_.num_logical + expert];
  }

  HomesShape shape_;
  Index num_batches_;
  std::vector<std::int32_t> want_;  // [batches, num_logical]
  std::vector<std::int64_t> weight_;
  std::int64_t value_ = 0;
  std::int64_t clock_ = 0;

  std::vector<Index> expert_;  // [num_slots]
  std::vector<Index> next_;    // [num_slots]: the next slot of the same expert, in a circle
  std::vector<Index> any_;     // [num_logical]: one slot of the expert; -1: none
  std::vector<State> states_, trial_;
  std::vector<Cut> cuts_;
  std::vector<std::size_t> highest_;       // [batches]: the cut that proves most
  std::vector<std::vector<Index>> found_;  // cuts of the edit that is being tried
  std::vector<double> lower_;              // [batches]: what bound() found

  std::vector<Index> reached_;    // ranks, by their distance
  std::vector<char> is_reached_;  // [num_ranks]
  std::vector<Index> from_, to_;  // [num_ranks]: the slots between which a path comes here
};

}  // namespace lplb::placement
