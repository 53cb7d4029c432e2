// SPDX-License-Identifier: MIT
#include "simulate/player.h"

#include <algorithm>
#include <chrono>
#include <numeric>

#include "core/check.h"
#include "core/parallel.h"
#include "lplb/mapping.h"

namespace lplb::replay {
namespace {

std::span<const Load> layer_of(const std::vector<Load>& values, std::size_t layer,
                               std::size_t size) {
  return std::span(values).subspan(layer * size, size);
}

/// The moves of plan_moves() that leave their rank, without making the plan: slots of `to` whose
/// expert is nowhere on their rank in `from`. `held_by` is scratch.
Index count_fetched(const Placement& from, const Placement& to, std::vector<Index>& held_by) {
  held_by.assign(static_cast<std::size_t>(to.num_logical_experts), -1);
  const Index slots = to.slots_per_rank();
  Index fetched = 0;
  for (Index first = 0; first < to.num_physical(); first += slots) {
    for (Index slot = first; slot < first + slots; ++slot) {
      held_by[from.physical_to_logical[slot]] = first;
    }
    for (Index slot = first; slot < first + slots; ++slot) {
      fetched += held_by[to.physical_to_logical[slot]] != first;
    }
  }
  return fetched;
}

}  // namespace

Player::Player(const SimulateOptions& options, const TraceInfo& trace)
    : options_(options),
      shape_{options.num_ranks, options.num_nodes, options.num_groups, trace.num_logical_experts,
             options.redundants},
      num_layers_(static_cast<std::size_t>(trace.num_layers)),
      scratch_(static_cast<std::size_t>(options.jobs)) {
  for (std::size_t i = 0; i < options.policies.size(); ++i) add_policy(i, options.policies[i]);
}

void Player::add_policy(std::size_t index, const std::string& name) {
  const PolicyName parsed = parse_policy(name);
  auto group = std::find_if(groups_.begin(), groups_.end(),
                            [&](const Group& g) { return g.name == parsed.placement; });
  if (group == groups_.end()) {
    groups_.push_back({parsed.placement, parsed.factory(parsed.placement, shape_), {}, {}});
    group = groups_.end() - 1;
    const std::vector<double> uniform(static_cast<std::size_t>(shape_.num_logical), 1.0);
    const Placement first = placed(*group->policy, uniform);
    group->layers.reserve(num_layers_);
    for (std::size_t i = 0; i < num_layers_; ++i) group->layers.emplace_back(first);
  }
  group->members.push_back(index);
  members_.push_back({static_cast<std::size_t>(group - groups_.begin()), parsed.split});
}

Placement Player::placed(const PlacementPolicy& policy, std::span<const double> load) const {
  PlacementOptions options;
  options.num_nodes = shape_.num_nodes;
  return make_placement(shape_.num_ranks, shape_.num_logical, policy.place(load), options);
}

void Player::play(const std::deque<Batch>& batches, std::size_t count, BlockOutcome& out) {
  const std::size_t pairs = num_layers_ * count;
  out.first_batch = next_batch_;
  out.size = count;
  out.placement.assign(groups_.size() * pairs, {});
  out.policy.assign(members_.size() * pairs, {});
  out.rank_load.resize(members_.size() * pairs * static_cast<std::size_t>(shape_.num_ranks));
  parallel_chunks(static_cast<std::int64_t>(groups_.size() * num_layers_), 1, options_.jobs,
                  [&](std::int64_t task, std::int64_t, int thread) {
                    const auto i = static_cast<std::size_t>(task);
                    play_layer(batches, i / num_layers_, i % num_layers_, out,
                               scratch_[static_cast<std::size_t>(thread)]);
                  });
  next_batch_ += static_cast<std::int64_t>(count);
}

void Player::play_layer(const std::deque<Batch>& batches, std::size_t group_index,
                        std::size_t layer, BlockOutcome& out, Scratch& scratch) {
  using Clock = std::chrono::steady_clock;
  Group& group = groups_[group_index];
  const auto ranks = static_cast<std::size_t>(shape_.num_ranks);
  const auto experts = static_cast<std::size_t>(shape_.num_logical);
  const SolveOptions solve_options{options_.solver};

  for (std::size_t i = 0; i < out.size; ++i) {
    const std::size_t at = batches.size() - out.size + i;
    const Batch& batch = batches[at];
    PlacementOutcome& placed = out.placement[(group_index * num_layers_ + layer) * out.size + i];
    const std::int64_t number = out.first_batch + static_cast<std::int64_t>(i);
    if (number > 0 && number % options_.rebalance_every == 0 && group.policy->adapts()) {
      placed.moved = rebalance(batches, at, group, layer, scratch);
    }
    const Layer& state = group.layers[layer];
    const auto begin = Clock::now();
    solve(state.problem, layer_of(batch.load, layer, experts), scratch.split, scratch.workspace,
          solve_options);
    const std::chrono::duration<double, std::micro> took = Clock::now() - begin;
    placed.solve_us = took.count();
    placed.optimal = scratch.split.status == SolveStatus::kOptimal;

    for (const std::size_t policy : group.members) {
      const std::size_t item = (policy * num_layers_ + layer) * out.size + i;
      split(batch, state, layer, members_[policy].split, out.policy[item],
            std::span(out.rank_load).subspan(item * ranks, ranks), scratch);
    }
  }
}

/// Places the layer anew from the window before batches[past]. Returns the experts moved.
Index Player::rebalance(const std::deque<Batch>& batches, std::size_t past, Group& group,
                        std::size_t layer, Scratch& scratch) const {
  const auto experts = static_cast<std::size_t>(shape_.num_logical);
  const auto window = static_cast<std::size_t>(options_.window);
  scratch.past_load.assign(experts, 0.0);
  for (std::size_t i = past - std::min(past, window); i < past; ++i) {
    const std::span<const Load> load = layer_of(batches[i].load, layer, experts);
    for (std::size_t e = 0; e < experts; ++e) {
      scratch.past_load[e] += static_cast<double>(load[e]);
    }
  }
  Layer& state = group.layers[layer];
  Placement next = placed(*group.policy, scratch.past_load);
  if (next.physical_to_logical == state.placement.physical_to_logical) return 0;
  const Index fetched = count_fetched(state.placement, next, scratch.held_by);
  state.placement = std::move(next);
  state.problem.assign(state.placement);
  return fetched;
}

/// One policy's split of one layer, given the exact one in scratch.split.
void Player::split(const Batch& batch, const Layer& state, std::size_t layer, SplitKind kind,
                   PolicyOutcome& outcome, std::span<Load> rank_load, Scratch& scratch) const {
  const auto experts = static_cast<std::size_t>(shape_.num_logical);
  const std::vector<Load>* physical_load = &scratch.split.physical_load;
  if (kind == SplitKind::kExact) {
    std::copy(scratch.split.rank_load.begin(), scratch.split.rank_load.end(), rank_load.begin());
  } else {
    scratch.physical_load.resize(state.placement.physical_to_logical.size());
    split_evenly(state.placement, layer_of(batch.load, layer, experts), scratch.physical_load);
    physical_load = &scratch.physical_load;
    auto slot = scratch.physical_load.begin();
    for (Load& load : rank_load) {
      load = std::accumulate(slot, slot + state.placement.slots_per_rank(), Load{0});
      slot += state.placement.slots_per_rank();
    }
  }
  outcome.imbalance = imbalance(rank_load);
  const double bound = scratch.split.lower_bound;
  const auto most = static_cast<double>(*std::max_element(rank_load.begin(), rank_load.end()));
  outcome.gap = bound > 0 ? most / bound - 1 : 0;
  if (batch.source_load.empty()) return;
  const std::size_t sources = static_cast<std::size_t>(shape_.num_ranks) * experts;
  outcome.local = static_cast<double>(
      count_local(state.placement, layer_of(batch.source_load, layer, sources), *physical_load)
          .same_rank);
  outcome.total = std::accumulate(rank_load.begin(), rank_load.end(), 0.0);
}

}  // namespace lplb::replay
