// SPDX-License-Identifier: MIT
#include "plan/planner_state.h"

#include <algorithm>
#include <utility>

#include "core/check.h"
#include "plan/limits.h"
#include "plan/members.h"

namespace lplb {

Planner::State::State(const Placement& first, Index own_rank, const PlannerOptions& given,
                      std::shared_ptr<Exchange> peers)
    : rank(own_rank), options(given), exchange(std::move(peers)), placement(first), problem(first) {
  if (options.max_redundants == 0) {
    options.max_redundants = first.num_physical() - first.num_logical_experts;
  }
  check_options();
  plan::set_cost(options);
  members_below = plan::members_below(first, exchange->num_ranks());
  allocate();
  if (options.dynamic_slots > 0) copies = std::make_unique<plan::Copies>(first, options);
  take_placement(first);
}

void Planner::State::check_options() const {
  check_argument(rank >= 0 && rank < placement.num_ranks, "rank", "{} is not between 0 and {}",
                 rank, placement.num_ranks - 1);
  check_argument(options.max_tokens >= 1, "max_tokens", "{} is not >= 1", options.max_tokens);
  check_argument(options.num_topk >= 1, "num_topk", "{} is not >= 1", options.num_topk);
  const Index most = kMaxPhysical - placement.num_logical_experts;
  check_argument(options.max_redundants >= 0 && options.max_redundants <= most, "max_redundants",
                 "{} is not between 0 and {}", options.max_redundants, most);
  plan::check_staleness(options.staleness);
  plan::check_cost(options);
  plan::check_dynamic_slots(options);
  check_argument(exchange != nullptr, "exchange", "is null");
  plan::check_member(placement, rank, *exchange);
  check_placement(placement);
}

void Planner::State::check_placement(const Placement& next) const {
  plan::check_next_placement(next, placement, options.max_redundants, exchange->num_ranks());
}

/// Allocates for the worst placement within the limits, and solves once with it, so that the
/// solver's memory grows now and not in run().
void Planner::State::allocate() {
  const auto num_ranks = static_cast<std::size_t>(placement.num_ranks);
  const auto num_logical = static_cast<std::size_t>(placement.num_logical_experts);
  const auto redundants = static_cast<std::size_t>(options.max_redundants);
  const std::size_t max_physical = (num_logical + redundants) / num_ranks * num_ranks;
  const std::size_t max_replicated = std::min(num_logical, redundants);
  const std::size_t max_counts =
      singles() == Singles::kEach ? num_logical : max_replicated + num_ranks;

  std::vector<Index> worst(max_physical);
  for (std::size_t p = 0; p < max_physical; ++p) worst[p] = static_cast<Index>(p % num_logical);
  problem.assign(make_placement(placement.num_ranks, placement.num_logical_experts, worst));
  load.assign(num_logical, 0);
  split.bottleneck_ranks.reserve(num_ranks);
  solve(problem, load, split, workspace, options.solve);
  if (options.cost) {  // also with experts that pass the first step, which is another path
    Load step = 0;
    for (const CostTable& table : options.cost->tables()) step = std::max(step, table.tokens[0]);
    load.assign(num_logical, std::min(step + 1, Load{1} << 32));
    solve(problem, load, split, workspace, options.solve);
  }

  placement.physical_to_logical.reserve(max_physical);
  placement.logical_to_physical.reserve(num_logical * (redundants + 1));
  placement.rank_speed.reserve(num_ranks);
  placement.rank_alive.reserve(num_ranks);
  layout.replicated.reserve(max_replicated);
  carrier.resize(num_ranks);
  counts.assign(num_logical, 0);
  for (std::vector<Load>* row : {&mine, &posted, &previous}) row->reserve(max_counts);
  all.reserve(max_counts * num_ranks);
  sums.reserve(max_counts);
  token_map.reserve(placement.num_logical_experts,
                    static_cast<Index>(max_physical) + placement.num_ranks * options.dynamic_slots);
  exchange->reserve(max_counts);
}

void Planner::State::take_placement(const Placement& next) {
  placement = next;
  problem.assign(next);
  layout.assign(next, singles());
  if (copies) layout.fingerprint ^= copies->fingerprint();
  mine.resize(layout.size());
  sums.resize(layout.size());
  std::fill(carrier.begin(), carrier.end(), -1);
  for (Index e = 0; e < next.num_logical_experts; ++e) {
    if (layout.home[e] >= 0) carrier[layout.home[e]] = e;
  }
}

}  // namespace lplb
