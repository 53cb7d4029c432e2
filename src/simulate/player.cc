// SPDX-License-Identifier: MIT
#include "simulate/player.h"

#include <algorithm>
#include <chrono>
#include <numeric>

#include "core/check.h"
#include "core/imbalance.h"
#include "core/parallel.h"
#include "lplb/mapping.h"
#include "simulate/stale_split.h"

namespace lplb::replay {
namespace {

std::span<const Load> layer_of(const std::vector<Load>& values, std::size_t layer,
                               std::size_t size) {
  return std::span(values).subspan(layer * size, size);
}

/// How many moves of plan_moves() fetch an expert from another rank: the slots of `to` whose expert
/// is nowhere on their rank in `from`. It counts them without making the plan. `held_by` is scratch
/// memory.
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
      solve_options_{.solver = options.solver, .backend = options.backend},
      shape_{options.num_ranks, options.num_nodes, options.num_groups, trace.num_logical_experts,
             options.redundants},
      num_layers_(static_cast<std::size_t>(trace.num_layers)),
      scratch_(static_cast<std::size_t>(options.jobs)) {
  for (std::size_t i = 0; i < options.policies.size(); ++i) add_policy(i, options.policies[i]);
  if (options.backend == Backend::kCuda) warm_up();
}

/// Starts the device and allocates each thread's memory, so that no batch's time includes that.
void Player::warm_up() {
  const std::vector<Load> load(static_cast<std::size_t>(shape_.num_logical), 0);
  const Layer& state = groups_[0].layers[0];
  for (Scratch& scratch : scratch_) {
    scratch.run_split.resize(static_cast<std::size_t>(state.placement.num_physical()));
    scratch.summary.resize(1);
    solve_batch(state.problem, load, scratch.run_split, scratch.summary, scratch.workspace,
                solve_options_);
  }
}

void Player::add_policy(std::size_t index, const std::string& name) {
  const PolicyName parsed = parse_policy(name);
  auto group = std::find_if(groups_.begin(), groups_.end(),
                            [&](const Group& g) { return g.name == parsed.placement; });
  if (group == groups_.end()) {
    groups_.push_back({parsed.placement, parsed.factory(parsed.placement, shape_), {}, {}, false});
    group = groups_.end() - 1;
    const std::vector<double> uniform(static_cast<std::size_t>(shape_.num_logical), 1.0);
    const Placement first = placed(*group->policy, uniform);
    group->layers.reserve(num_layers_);
    for (std::size_t i = 0; i < num_layers_; ++i) group->layers.emplace_back(first);
  }
  group->members.push_back(index);
  group->is_stale |= parsed.split == SplitKind::kStale;
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
  out.rank_heat.resize(members_.size() * pairs * static_cast<std::size_t>(shape_.num_ranks));
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
  Group& group = groups_[group_index];
  Layer& state = group.layers[layer];
  const auto ranks = static_cast<std::size_t>(shape_.num_ranks);
  const auto slots = static_cast<std::size_t>(state.placement.num_physical());
  PlacementOutcome* const placed =
      out.placement.data() + (group_index * num_layers_ + layer) * out.size;

  for (std::size_t begin = 0, count = 0; begin < out.size; begin += count) {
    const std::size_t first = batches.size() - out.size + begin;
    const std::int64_t number = out.first_batch + static_cast<std::int64_t>(begin);
    if (rebalances_at(group, number)) {
      placed[begin].moved = rebalance(batches, first, group, layer, scratch);
    }
    if (group.is_stale && state.shares.empty() && number > 0) {
      take_shares(batches[first - 1], state, layer, scratch);
    }
    count = run_length(group, number, out.size - begin);
    const double solve_us = solve_run(batches, first, count, state, layer, scratch);
    const auto exact_of = [&](std::size_t i) {
      return std::span<const Load>(scratch.run_split).subspan(i * slots, slots);
    };
    for (std::size_t i = 0; i < count; ++i) {
      const SplitSummary& summary = scratch.summary[i];
      placed[begin + i].optimal = summary.status == SolveStatus::kOptimal;
      placed[begin + i].backend = summary.backend;
      placed[begin + i].solve_us = solve_us;
      const std::span<const Load> exact = exact_of(i);
      for (const std::size_t policy : group.members) {
        const std::size_t item = (policy * num_layers_ + layer) * out.size + begin + i;
        const Batch& batch = batches[first + i];
        judge(batch, state, layer,
              split(batch, state, layer, members_[policy].split, exact,
                    i == 0 ? state.shares : exact_of(i - 1), scratch),
              summary.lower_bound, scratch, out.policy[item],
              std::span(out.rank_heat).subspan(item * ranks, ranks));
      }
    }
    if (group.is_stale) {
      const std::span<const Load> last = exact_of(count - 1);
      state.shares.assign(last.begin(), last.end());
    }
  }
}

bool Player::rebalances_at(const Group& group, std::int64_t batch) const {
  return batch > 0 && batch % options_.rebalance_every == 0 && group.policy->adapts();
}

/// How many batches from `batch` on are solved at once: at most `most`. On the CPU it is one, so
/// that each batch has a time of its own.
std::size_t Player::run_length(const Group& group, std::int64_t batch, std::size_t most) const {
  if (options_.backend == Backend::kCpu) return 1;
  if (!group.policy->adapts()) return most;
  return std::min(
      most, static_cast<std::size_t>(options_.rebalance_every - batch % options_.rebalance_every));
}

/// Solves `count` batches of one placement exactly, into scratch.run_split and scratch.summary.
/// Returns the time of a solve in microseconds.
double Player::solve_run(const std::deque<Batch>& batches, std::size_t first, std::size_t count,
                         const Layer& state, std::size_t layer, Scratch& scratch) const {
  using Clock = std::chrono::steady_clock;
  const auto experts = static_cast<std::size_t>(shape_.num_logical);
  scratch.run_load.clear();
  for (std::size_t i = first; i < first + count; ++i) {
    const std::span<const Load> load = layer_of(batches[i].load, layer, experts);
    scratch.run_load.insert(scratch.run_load.end(), load.begin(), load.end());
  }
  scratch.run_split.resize(count * static_cast<std::size_t>(state.placement.num_physical()));
  scratch.summary.resize(count);
  const auto begin = Clock::now();
  solve_batch(state.problem, scratch.run_load, scratch.run_split, scratch.summary,
              scratch.workspace, solve_options_);
  const std::chrono::duration<double, std::micro> took = Clock::now() - begin;
  return took.count() / static_cast<double>(count);
}

/// Sets state.shares to the exact split of `batch` over the current placement. This is needed after
/// a rebalance, because the batch was split over another placement.
void Player::take_shares(const Batch& batch, Layer& state, std::size_t layer,
                         Scratch& scratch) const {
  state.shares.resize(static_cast<std::size_t>(state.placement.num_physical()));
  scratch.summary.resize(1);
  solve_batch(state.problem,
              layer_of(batch.load, layer, static_cast<std::size_t>(shape_.num_logical)),
              state.shares, scratch.summary, scratch.workspace, solve_options_);
}

/// Chooses the layer's placement again, from the window of batches before batches[past]. Returns
/// how many experts moved.
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
  state.shares.clear();
  return fetched;
}

/// One policy's split of one layer: [num_physical]. `exact` is the exact split, and `shares` that
/// of the previous batch; `shares` is empty if there is no previous batch.
std::span<const Load> Player::split(const Batch& batch, const Layer& state, std::size_t layer,
                                    SplitKind kind, std::span<const Load> exact,
                                    std::span<const Load> shares, Scratch& scratch) const {
  if (kind == SplitKind::kExact) return exact;
  const std::span<const Load> load =
      layer_of(batch.load, layer, static_cast<std::size_t>(shape_.num_logical));
  scratch.other_split.resize(exact.size());
  if (kind == SplitKind::kStale && !shares.empty()) {
    split_by_shares(state.placement, shares, load, scratch.other_split);
  } else {
    split_evenly(state.placement, load, scratch.other_split);
  }
  return scratch.other_split;
}

/// Computes the figures of a split, and how much each rank has of what it should have.
void Player::judge(const Batch& batch, const Layer& state, std::size_t layer,
                   std::span<const Load> physical_load, double bound, Scratch& scratch,
                   PolicyOutcome& outcome, std::span<double> rank_heat) const {
  std::vector<Load>& rank_load = scratch.rank_load;
  rank_load.resize(rank_heat.size());
  double slowest = 0;  // the largest load / speed
  auto slot = physical_load.begin();
  for (Index g = 0; g < shape_.num_ranks; ++g) {
    rank_load[g] = std::accumulate(slot, slot + state.placement.slots_per_rank(), Load{0});
    slot += state.placement.slots_per_rank();
    slowest = std::max(slowest, static_cast<double>(rank_load[g]) / state.placement.speed(g));
  }
  outcome.imbalance = relative_loads<Load>(state.placement, rank_load, rank_heat);
  outcome.gap = bound > 0 ? slowest / bound - 1 : 0;
  if (batch.source_load.empty()) return;
  const std::size_t sources =
      static_cast<std::size_t>(shape_.num_ranks) * static_cast<std::size_t>(shape_.num_logical);
  outcome.local = static_cast<double>(
      count_local(state.placement, layer_of(batch.source_load, layer, sources), physical_load)
          .same_rank);
  outcome.total = std::accumulate(rank_load.begin(), rank_load.end(), 0.0);
}

}  // namespace lplb::replay
