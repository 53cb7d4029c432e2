// SPDX-License-Identifier: MIT
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "lplb/replicate.h"
#include "placement/homes_judge.h"

namespace lplb::placement {

/// The dynamic slots that a placement is made for.
struct DynamicShape {
  Index dynamic_slots = 0;  ///< of each rank
  Index num_domains = 1;    ///< divides num_ranks: copies do not leave a domain
  Index num_ranks = 0;      ///< dead ones, too
  std::vector<Index> live;  ///< [HomesShape::num_ranks]: the numbers of the live ranks, ascending
};

/// Judges by what dynamic slots leave: mostly by the largest load / speed that replicate() reaches
/// for each batch with the placement, and to a small part by the exact split without copies, which
/// says how much the copies have to carry. Where dynamic slots reach the least load whatever the
/// placement is, the search makes that part small.
///
/// Two bounds save most of the plans: replicate() cannot be better than the exact split in which
/// each domain is one rank, and for both exact splits a WindowJudge knows bounds.
class CopiesJudge final : public HomesJudge {
 public:
  /// `load` and `weight` are those of WindowJudge.
  CopiesJudge(const HomesShape& shape, const DynamicShape& dynamic,
              const std::vector<std::int32_t>& load, const std::vector<std::int64_t>& weight);

  /// No slot may be empty.
  void assign(std::span<const Index> experts) override;

  Index num_batches() const override { return whole_.num_batches(); }
  const std::vector<Index>& experts() const override { return whole_.experts(); }
  std::int64_t value() const override { return combined(copied_, whole_.value()); }
  /// What replicate() reaches.
  std::int64_t level(Index batch) const override { return levels_[batch]; }
  bool is_on(Index expert, Index rank) const override { return whole_.is_on(expert, rank); }
  bool may_gain(Index expert, Index rank) const override;
  std::int64_t bound(std::span<const SlotEdit> edits) override;
  bool try_edits(std::span<const SlotEdit> edits, std::int64_t limit) override;

 private:
  static std::int64_t combined(std::int64_t copied, std::int64_t whole);
  std::span<const SlotEdit> between(std::span<const SlotEdit> edits);
  bool plan_batches(std::int64_t most);

  HomesShape shape_;
  DynamicShape dynamic_;
  std::vector<Load> load_;  // [batches, num_logical]
  std::vector<std::int64_t> weight_;
  std::vector<Index> domain_;          // [ranks of shape_]: its rank in between_
  std::vector<Index> slot_in_domain_;  // [num_slots]: its slot in between_
  std::size_t num_domain_slots_ = 0;
  PlacementOptions ranks_;                // speeds and dead ranks, for replicate()
  WindowJudge whole_;                     // the exact split over the placement's slots
  std::unique_ptr<WindowJudge> between_;  // the same with each domain as one rank

  std::int64_t copied_ = 0;  // the weighted sum of levels_
  std::vector<std::int64_t> levels_, trial_;
  SlotEdit between_edits_[kMaxEdits];
  Replication plan_;
};

}  // namespace lplb::placement
