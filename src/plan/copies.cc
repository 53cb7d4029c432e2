// SPDX-License-Identifier: MIT
#include "plan/copies.h"

#include <algorithm>
#include <bit>

#include "core/check.h"
#include "core/extended.h"
#include "core/mix.h"

namespace lplb::plan {

void check_dynamic_slots(const PlannerOptions& options) {
  const Index slots = options.dynamic_slots;
  check_argument(slots >= 0 && slots <= kMaxDynamicSlots, "dynamic_slots",
                 "{} is not between 0 and {}", slots, kMaxDynamicSlots);
  if (slots == 0) return;
  check_argument(options.staleness == 0, "staleness",
                 "{} with {} dynamic slots, expected 0: copies are chosen from the batch itself",
                 options.staleness, slots);
  check_argument(!options.cost, "cost", "is given with {} dynamic slots, expected none", slots);
  check_argument(options.solve.solver == Solver::kAuto, "solver",
                 "is {} with {} dynamic slots, expected auto", solver_name(options.solve.solver),
                 slots);
}

ReplicateOptions copy_options(const PlannerOptions& options) {
  ReplicateOptions how = options.replicate;
  how.dynamic_slots = options.dynamic_slots;
  return how;
}

std::uint64_t fingerprint_of(const ReplicateOptions& options) {
  const auto bits = [](double value) { return std::bit_cast<std::uint64_t>(value); };
  const CopyCost& cost = options.cost;
  std::uint64_t hash = 0;
  for (const std::uint64_t part :
       {static_cast<std::uint64_t>(options.dynamic_slots), bits(options.target),
        static_cast<std::uint64_t>(options.min_tokens),
        static_cast<std::uint64_t>(options.num_domains), bits(cost.us_per_token),
        bits(cost.expert_bytes), bits(cost.gigabytes_per_s), bits(cost.hidden_us)}) {
    hash = mix(hash + part);
  }
  return hash;
}

Copies::Copies(const Placement& placement, const PlannerOptions& options)
    : how_(copy_options(options)), replicator_(placement, how_) {
  const auto ranks = static_cast<std::size_t>(placement.num_ranks);
  const auto slots = ranks * static_cast<std::size_t>(how_.dynamic_slots);
  const auto experts = static_cast<std::size_t>(placement.num_logical_experts);
  // An expert has at most one copy on a rank, but unused slots repeat a main slot.
  const std::size_t replicas = static_cast<std::size_t>(options.max_redundants) + 1 + slots;
  extended_.logical_to_physical.reserve(std::min(experts * replicas, experts * kMaxPhysical));
  take(placement);
  // Memory grows now and not in a batch: once without copies, once with many.
  Split split;
  std::vector<Load> load(experts, 0);
  choose(load, split);
  for (std::size_t e = 0; e < experts; ++e) load[e] = static_cast<Load>(1000 / (e + 1));
  choose(load, split);
  choose_none();
}

void Copies::assign(const Placement& placement) {
  replicator_ = Replicator(placement, how_);
  take(placement);
  choose_none();
}

void Copies::take(const Placement& placement) {
  const Placement whole = extend_placement(placement, how_.dynamic_slots);
  const std::size_t room = extended_.logical_to_physical.capacity();
  extended_ = whole;
  extended_.logical_to_physical.reserve(room);
  main_ = whole;
  main_.max_replicas = placement.max_replicas;
  main_.replica_count = placement.replica_count;
  main_.logical_to_physical = placement.logical_to_physical;
  const Index slots = placement.slots_per_rank();
  for (Index& slot : main_.logical_to_physical) {
    if (slot >= 0) slot += slot / slots * how_.dynamic_slots;
  }
}

void Copies::choose(std::span<const Load> load, Split& split) {
  replicator_.run(load, plan_);
  fill_dynamic_slots(extended_, how_.dynamic_slots, plan_.slot_expert);
  held_.resize(plan_.slot_expert.size(), -1);
  is_new_.resize(held_.size());
  for (std::size_t i = 0; i < held_.size(); ++i) {
    const Index e = plan_.slot_expert[i];
    is_new_[i] = e >= 0 && e != held_[i] ? 1 : 0;
    if (e >= 0) held_[i] = e;
  }
  split.status = plan_.status;
  split.max_load = plan_.max_load;
  split.lower_bound = plan_.lower_bound;
  split.max_level = plan_.max_level;
  split.bound_level = plan_.bound_level;
  split.bottleneck_ranks.assign(plan_.bottleneck_ranks.begin(), plan_.bottleneck_ranks.end());
  split.rank_load.assign(plan_.rank_load.begin(), plan_.rank_load.end());
  split.physical_load.assign(plan_.physical_load.begin(), plan_.physical_load.end());
}

void Copies::choose_none() {
  std::fill(plan_.slot_expert.begin(), plan_.slot_expert.end(), -1);
  std::fill(plan_.slot_source.begin(), plan_.slot_source.end(), -1);
  plan_.copies = plan_.max_sent = plan_.max_received = 0;
  std::fill(held_.begin(), held_.end(), -1);
  std::fill(is_new_.begin(), is_new_.end(), 0);
}

}  // namespace lplb::plan
