// SPDX-License-Identifier: MIT
#include "placement/copies_judge.h"

#include <algorithm>
#include <limits>

namespace lplb::placement {
namespace {

/// Quarters of the value that are what copies leave; the others are the split without copies.
constexpr std::int64_t kCopiedShare = 3;
constexpr std::int64_t kAllShares = 4;

/// Copies leave enough to be looked at if it is more than this part of the value, as a power of 2.
constexpr int kLittle = 14;

constexpr std::int64_t kNoLimit = std::numeric_limits<std::int64_t>::max();

}  // namespace

CopiesJudge::CopiesJudge(const HomesShape& shape, const DynamicShape& dynamic,
                         const std::vector<std::int32_t>& load,
                         const std::vector<std::int64_t>& weight)
    : shape_(shape),
      dynamic_(dynamic),
      load_(load.begin(), load.end()),
      weight_(weight),
      whole_(shape, load, weight) {
  // The domains that have live ranks, with the slots of these ranks one after another.
  const Index ranks = dynamic.num_ranks / dynamic.num_domains;
  std::vector<std::vector<Index>> members;
  Index last = -1;
  std::size_t most = 0;
  for (Index g = 0; g < shape.num_ranks; ++g) {
    if (dynamic.live[g] / ranks != last) members.emplace_back();
    last = dynamic.live[g] / ranks;
    members.back().push_back(g);
    most = std::max(most, members.back().size());
  }
  HomesShape domains{.num_ranks = static_cast<Index>(members.size()),
                     .slots = static_cast<Index>(most) * shape.slots,
                     .num_logical = shape.num_logical,
                     .speed = {}};
  for (Index d = 0; d < domains.num_ranks; ++d) {
    std::int64_t speed = 0;
    for (std::size_t i = 0; i < members[d].size(); ++i) {
      speed += shape.speed.empty() ? kUnitSpeed : shape.speed[members[d][i]];
      domain_.push_back(d);
      for (Index s = 0; s < shape.slots; ++s) {
        slot_in_domain_.push_back(d * domains.slots + static_cast<Index>(i) * shape.slots + s);
      }
    }
    domains.speed.push_back(speed);
  }
  num_domain_slots_ = static_cast<std::size_t>(domains.num_slots());
  between_ = std::make_unique<WindowJudge>(domains, load, weight);

  const auto all = static_cast<std::size_t>(dynamic.num_ranks);
  if (shape.num_ranks < dynamic.num_ranks) ranks_.rank_alive.assign(all, 0);
  if (!shape.speed.empty()) ranks_.rank_speed.assign(all, 1.0);
  for (Index g = 0; g < shape.num_ranks; ++g) {
    if (!ranks_.rank_alive.empty()) ranks_.rank_alive[dynamic.live[g]] = 1;
    if (shape.speed.empty()) continue;
    ranks_.rank_speed[dynamic.live[g]] =
        static_cast<double>(shape.speed[g]) / static_cast<double>(kUnitSpeed);
  }
}

std::int64_t CopiesJudge::combined(std::int64_t copied, std::int64_t whole) {
  return (kCopiedShare * copied + (kAllShares - kCopiedShare) * whole) / kAllShares;
}

/// The edits in the slots of between_.
std::span<const SlotEdit> CopiesJudge::between(std::span<const SlotEdit> edits) {
  for (std::size_t i = 0; i < edits.size(); ++i) {
    between_edits_[i] = {slot_in_domain_[edits[i].slot], edits[i].expert};
  }
  return {between_edits_, edits.size()};
}

void CopiesJudge::assign(std::span<const Index> experts) {
  whole_.assign(experts);
  std::vector<Index> slots(num_domain_slots_, -1);
  for (std::size_t p = 0; p < experts.size(); ++p) slots[slot_in_domain_[p]] = experts[p];
  between_->assign(slots);
  levels_.assign(weight_.size(), 0);
  trial_ = levels_;
  plan_batches(kNoLimit);
}

/// Plans all batches with the experts of whole_. If the sum of their levels is at most `most`,
/// takes them and returns true. between_ must have the same experts.
bool CopiesJudge::plan_batches(std::int64_t most) {
  std::vector<Index> slots(std::size_t{1} * dynamic_.num_ranks * shape_.slots);
  for (std::size_t p = 0; p < slots.size(); ++p) {  // what dead ranks hold does not matter
    slots[p] = static_cast<Index>(p) % shape_.num_logical;
  }
  for (Index g = 0; g < shape_.num_ranks; ++g) {
    std::copy_n(experts().begin() + g * shape_.slots, shape_.slots,
                slots.begin() + dynamic_.live[g] * shape_.slots);
  }
  lplb::Replicator replicator(
      make_placement(dynamic_.num_ranks, shape_.num_logical, slots, ranks_),
      {.dynamic_slots = dynamic_.dynamic_slots, .num_domains = dynamic_.num_domains});
  std::int64_t sum = between_->value();  // of the batches that are not planned yet: a bound
  const auto experts = static_cast<std::size_t>(shape_.num_logical);
  for (Index b = 0; b < num_batches(); ++b) {
    if (sum > most) return false;
    replicator.run(std::span(load_).subspan(b * experts, experts), plan_);
    trial_[b] = static_cast<std::int64_t>(plan_.max_load);
    sum += weight_[b] * (trial_[b] - between_->level(b));
  }
  if (sum > most) return false;
  std::swap(levels_, trial_);
  copied_ = sum;
  return true;
}

bool CopiesJudge::may_gain(Index expert, Index rank) const {
  return whole_.may_gain(expert, rank) || between_->may_gain(expert, domain_[rank]) ||
         copied_ - between_->value() > copied_ >> kLittle;
}

std::int64_t CopiesJudge::bound(std::span<const SlotEdit> edits) {
  const std::int64_t copied = between_->bound(between(edits));
  return combined(copied, whole_.bound(edits));
}

bool CopiesJudge::try_edits(std::span<const SlotEdit> edits, std::int64_t limit) {
  // The largest sums that combined() lets pass.
  const std::int64_t all = kAllShares * limit + kAllShares - 1;
  const std::int64_t least = between_->bound(between(edits));
  if (combined(least, whole_.bound(edits)) > limit) return false;
  SlotEdit back[kMaxEdits];
  for (std::size_t i = 0; i < edits.size(); ++i) {
    back[i] = {edits[i].slot, experts()[edits[i].slot]};
  }
  const std::span<const SlotEdit> undo(back, edits.size());
  if (!whole_.try_edits(edits, (all - kCopiedShare * least) / (kAllShares - kCopiedShare))) {
    return false;
  }
  between_->try_edits(between(edits), kNoLimit);
  const std::int64_t rest = all - (kAllShares - kCopiedShare) * whole_.value();
  if (plan_batches(rest / kCopiedShare)) return true;
  whole_.try_edits(undo, kNoLimit);
  between_->try_edits(between(undo), kNoLimit);
  return false;
}

}  // namespace lplb::placement
