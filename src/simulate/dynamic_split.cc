// SPDX-License-Identifier: MIT
#include "simulate/dynamic_split.h"

#include <algorithm>
#include <chrono>
#include <limits>

#include "core/check.h"
#include "core/extended.h"
#include "core/made.h"

namespace lplb::replay {

namespace {

void check_size(const Placement& placement, Index dynamic_slots) {
  const Index slots = (placement.slots_per_rank() + dynamic_slots) * placement.num_ranks;
  check_argument(slots <= kMaxPhysical, "policies",
                 "{} dynamic slots on each of {} ranks make {} slots with the placement's {}, "
                 "expected at most {}",
                 dynamic_slots, placement.num_ranks, slots, placement.num_physical(), kMaxPhysical);
}

ReplicateOptions options_of(const Placement& placement, Index dynamic_slots,
                            const SimulateOptions& options) {
  check_size(placement, dynamic_slots);
  return {.dynamic_slots = dynamic_slots,
          .target = options.copy_target,
          .min_tokens = options.copy_min_tokens,
          .num_domains = options.copy_domains};
}

}  // namespace

DynamicSplit::DynamicSplit(const Placement& placement, Index dynamic_slots, bool by_time,
                           const SimulateOptions& options)
    : options_(options),
      how_(options_of(placement, dynamic_slots, options)),
      by_cost_{.solver = Solver::kTime, .cost = options.cost ? &*options.cost : nullptr},
      by_time_(by_time),
      replicator_(placement, how_),
      extended_(extend_placement(placement, dynamic_slots)),
      cost_bound_(std::numeric_limits<double>::quiet_NaN()) {}

void DynamicSplit::assign(const Placement& placement) {
  check_size(placement, how_.dynamic_slots);
  replicator_ = Replicator(placement, how_);
  extended_ = extend_placement(placement, how_.dynamic_slots);
}

void DynamicSplit::run(std::span<const Load> load, bool indexed) {
  using Clock = std::chrono::steady_clock;
  const auto begin = Clock::now();
  replicator_.run(load, plan_);
  put_copies(indexed || by_time_);
  split_.assign(plan_.physical_load.begin(), plan_.physical_load.end());
  copies_.optimal = plan_.status == SolveStatus::kOptimal;
  if (by_time_) split_by_time(load);
  copies_.made = plan_.copies;
  copies_.busiest = std::max(plan_.max_sent, plan_.max_received);
  copies_.exposed_us = exposed_us();
  copies_.plan_us = std::chrono::duration<double, std::micro>(Clock::now() - begin).count();
}

void DynamicSplit::put_copies(bool indexed) {
  put_dynamic_slots(extended_, how_.dynamic_slots, plan_.slot_expert);
  if (indexed) index_replicas(extended_);
}

void DynamicSplit::split_by_time(std::span<const Load> load) {
  if (problem_) {
    problem_->assign(extended_);
  } else {
    problem_.emplace(extended_);
  }
  solve(*problem_, load, time_split_, workspace_, by_cost_);
  split_.assign(time_split_.physical_load.begin(), time_split_.physical_load.end());
  cost_bound_ = time_split_.cost.lower_bound;
  copies_.optimal = time_split_.status == SolveStatus::kOptimal;
  drop_unused();
}

/// Takes back the copies that take no token.
void DynamicSplit::drop_unused() {
  const Index slots = extended_.slots_per_rank();
  const Index dynamic = how_.dynamic_slots;
  plan_.copies = plan_.max_sent = plan_.max_received = 0;
  sent_.assign(static_cast<std::size_t>(extended_.num_ranks), 0);
  for (Index g = 0; g < extended_.num_ranks; ++g) {
    Index received = 0;
    for (Index i = 0; i < dynamic; ++i) {
      const std::size_t at = static_cast<std::size_t>(g) * dynamic + i;
      if (plan_.slot_expert[at] < 0) continue;
      if (split_[g * slots + slots - dynamic + i] == 0) {
        plan_.slot_expert[at] = -1;
        continue;
      }
      ++plan_.copies;
      plan_.max_sent = std::max(plan_.max_sent, ++sent_[plan_.slot_source[at]]);
      plan_.max_received = std::max(plan_.max_received, ++received);
    }
  }
  put_copies(true);
}

void DynamicSplit::make_no_copies(std::span<const Load> split, const SplitSummary& summary) {
  const Index main = extended_.slots_per_rank() - how_.dynamic_slots;
  std::fill(plan_.slot_expert.begin(), plan_.slot_expert.end(), -1);
  put_copies(true);
  std::fill(split_.begin(), split_.end(), 0);
  for (std::size_t slot = 0; slot < split.size(); ++slot) {
    split_[slot + slot / static_cast<std::size_t>(main) * how_.dynamic_slots] = split[slot];
  }
  cost_bound_ = summary.cost_lower_bound;
  copies_ = {.optimal = summary.status == SolveStatus::kOptimal, .plan_us = copies_.plan_us};
}

/// The time for which the busiest rank sends or receives copies, as far as nothing hides it.
double DynamicSplit::exposed_us() const {
  if (options_.copy_gigabytes_per_s == 0) return 0;
  const double bytes = copies_.busiest * static_cast<double>(options_.expert_bytes);
  return std::max(0.0, bytes / (options_.copy_gigabytes_per_s * 1e3) - options_.copy_hidden_us);
}

}  // namespace lplb::replay
