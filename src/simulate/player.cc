// SPDX-License-Identifier: MIT
#include "simulate/player.h"

#include <algorithm>
#include <chrono>

#include "core/check.h"
#include "core/parallel.h"
#include "lplb/load_history.h"
#include "lplb/schedule.h"
#include "simulate/stale_split.h"

namespace lplb::replay {
namespace {

std::span<const Load> layer_of(const std::vector<Load>& values, std::size_t layer,
                               std::size_t size) {
  return std::span(values).subspan(layer * size, size);
}

/// [num_ranks, num_logical]: where the layer's tokens are; empty if that is not known.
std::span<const Load> sources_of(const Batch& batch, std::size_t layer, std::size_t size) {
  if (batch.source_load.empty()) return {};
  return layer_of(batch.source_load, layer, size);
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

/// In how many rounds the moves from one placement to another can happen.
Index count_rounds(const Placement& from, const Placement& to) {
  return static_cast<Index>(schedule(plan_moves(from, to), from, to).rounds.size());
}

ControllerOptions controller_of(const SimulateOptions& options) {
  ControllerOptions controller = options.controller.value_or(ControllerOptions{});
  controller.window = std::min(options.window, kMaxHistoryWindow);
  controller.cost = options.cost;
  return controller;
}

/// `options` names the slots of a layer: num_replicas is set.
PlacementShape shape_of(const SimulateOptions& options, const TraceInfo& trace) {
  std::vector<Index> layers;
  layers.reserve(static_cast<std::size_t>(trace.num_layers));
  for (std::size_t i = 0; i < static_cast<std::size_t>(trace.num_layers); ++i) {
    layers.push_back(static_cast<Index>(trace.layer_number(i)));
  }
  return {.num_ranks = options.num_ranks,
          .num_nodes = options.num_nodes,
          .num_groups = options.num_groups,
          .layers = std::move(layers),
          .num_logical = trace.num_logical_experts,
          .num_replicas = options.num_replicas,
          .controller = controller_of(options),
          .num_domains = options.copy_domains};
}

/// The cost of each rank of `placement` [num_ranks], or [1] if all have the same.
std::vector<CostCurve> curves_of(const Placement& placement, const CostModel& model) {
  const std::vector<CostTable>& tables = model.tables();
  const bool one = tables.size() == 1 && placement.rank_speed.empty();
  std::vector<CostCurve> curves(one ? 1 : static_cast<std::size_t>(placement.num_ranks));
  for (std::size_t g = 0; g < curves.size(); ++g) {
    const auto rank = static_cast<Index>(g);
    if (!one && !placement.alive(rank)) continue;  // has no tokens
    curves[g].assign(tables[tables.size() == 1 ? 0 : g], placement.speed(rank));
  }
  return curves;
}

}  // namespace

std::size_t run_length(std::int64_t batch, std::int64_t rebalance_every, std::size_t most) {
  const std::int64_t left = rebalance_every - batch % rebalance_every;
  return std::min(most, static_cast<std::size_t>(left));
}

Player::Player(const SimulateOptions& options, const TraceInfo& trace)
    : options_(options),
      exact_options_{.solver = options.solver, .backend = options.backend},
      time_options_{.solver = Solver::kTime,
                    .backend = options.backend,
                    .cost = options.cost ? &*options.cost : nullptr},
      shape_(shape_of(options, trace)),
      num_layers_(static_cast<std::size_t>(trace.num_layers)),
      scratch_(static_cast<std::size_t>(options.num_threads)) {
  for (std::size_t i = 0; i < options.policies.size(); ++i) add_policy(i, options.policies[i]);
  for (Scratch& scratch : scratch_) {
    scratch.taken.assign(static_cast<std::size_t>(shape_.num_logical), 0);
  }
  if (options.backend == Backend::kCuda) warm_up();
}

/// Starts the device and allocates each thread's memory, so that no batch's time includes that.
void Player::warm_up() {
  const std::vector<Load> load(static_cast<std::size_t>(shape_.num_logical), 0);
  const Layer& state = groups_[0].layers[0];
  for (Scratch& scratch : scratch_) {
    solve_all(state.problem, load, scratch.workspace, exact_options_, scratch.exact);
  }
}

void Player::add_policy(std::size_t index, const std::string& name) {
  const PolicyName parsed = parse_policy(name);
  const bool by_cost =
      parsed.split == SplitKind::kTime || parsed.split == SplitKind::kDynamicByTime;
  check_argument(!by_cost || options_.cost, "policies", "\"{}\" needs a cost model", name);
  PlacementShape shape = shape_;
  if (parsed.placed_for_slots) shape.dynamic_slots = parsed.dynamic_slots;
  auto group = std::find_if(groups_.begin(), groups_.end(), [&](const Group& g) {
    return g.name == parsed.placement && g.dynamic_slots == shape.dynamic_slots;
  });
  if (group == groups_.end()) {
    groups_.push_back({.name = parsed.placement,
                       .dynamic_slots = shape.dynamic_slots,
                       .policy = parsed.factory(parsed.placement, shape)});
    group = groups_.end() - 1;
    group->layers.reserve(num_layers_);
    for (std::size_t layer = 0; layer < num_layers_; ++layer) {
      group->layers.emplace_back(group->policy->first(static_cast<Index>(layer)));
    }
    if (options_.cost) group->curves = curves_of(group->layers[0].placement, *options_.cost);
  }
  for (Layer& layer : group->layers) {
    layer.dynamic.push_back(
        parsed.dynamic_slots == 0
            ? nullptr
            : std::make_unique<DynamicSplit>(layer.placement, parsed.dynamic_slots,
                                             parsed.split == SplitKind::kDynamicByTime, options_));
  }
  members_.push_back(
      {static_cast<std::size_t>(group - groups_.begin()), parsed.split, group->members.size()});
  group->members.push_back(index);
  group->is_stale |= parsed.split == SplitKind::kStale;
  // Copies have a bound of their own. By time they are compared with the split without them.
  const bool has_copies = parsed.dynamic_slots > 0;
  group->needs_exact |= !has_copies;
  group->needs_time |= options_.cost && (!has_copies || by_cost);
}

void Player::play(const std::deque<Batch>& batches, std::size_t count, BlockOutcome& out) {
  const std::size_t pairs = num_layers_ * count;
  out.first_batch = next_batch_;
  out.size = count;
  out.placement.assign(groups_.size() * pairs, {});
  out.policy.assign(members_.size() * pairs, {});
  out.heat.resize(members_.size() * pairs * static_cast<std::size_t>(shape_.num_ranks));
  out.has_tokens.clear();
  for (auto batch = batches.end() - static_cast<std::ptrdiff_t>(count); batch != batches.end();
       ++batch) {
    out.has_tokens.insert(out.has_tokens.end(), batch->has_tokens.begin(), batch->has_tokens.end());
  }
  parallel_chunks(static_cast<std::int64_t>(groups_.size() * num_layers_), 1, options_.num_threads,
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
  PlacementOutcome* const placed =
      out.placement.data() + (group_index * num_layers_ + layer) * out.size;

  for (std::size_t begin = 0, count = 0; begin < out.size; begin += count) {
    const std::size_t first = batches.size() - out.size + begin;
    const std::int64_t number = out.first_batch + static_cast<std::int64_t>(begin);
    if (rebalances_at(group, number)) {
      rebalance(batches, first, group, layer, scratch, placed[begin]);
    }
    if (group.is_stale && state.shares.empty() && number > 0) {
      take_shares(batches[first - 1], state, layer, scratch);
    }
    count = run_from(group, number, out.size - begin);
    solve_run(batches, first, count, group, layer, scratch);
    for (std::size_t i = 0; i < count; ++i) {
      if (group.needs_exact) placed[begin + i].exact = scratch.exact.outcome(i);
      if (group.needs_time) placed[begin + i].time = scratch.time.outcome(i);
      for (const std::size_t policy : group.members) {
        const std::size_t item = (policy * num_layers_ + layer) * out.size + begin + i;
        const Member& member = members_[policy];
        const std::span<double> heat = std::span(out.heat).subspan(item * ranks, ranks);
        DynamicSplit* const dynamic = state.dynamic[member.in_group].get();
        out.policy[item] =
            dynamic != nullptr
                ? judge_copies(batches[first + i], group, layer, *dynamic, i, heat, scratch)
                : judge_split(batches[first + i], group, layer, member.split, i, heat, scratch);
      }
    }
    if (group.is_stale) {
      const std::span<const Load> last = scratch.exact.of(count - 1);
      state.shares.assign(last.begin(), last.end());
    }
  }
}

bool Player::rebalances_at(const Group& group, std::int64_t batch) const {
  const Index every = group.policy->decides() ? 1 : options_.rebalance_every;
  return batch > 0 && batch % every == 0 && group.policy->adapts();
}

/// How many batches from `batch` on are solved at once: at most `most`. On the CPU it is one, so
/// that each batch has a time of its own.
std::size_t Player::run_from(const Group& group, std::int64_t batch, std::size_t most) const {
  if (options_.backend == Backend::kCpu || group.policy->decides()) return 1;
  return group.policy->adapts() ? run_length(batch, options_.rebalance_every, most) : most;
}

/// Solves `count` batches of one placement, as far as the group needs it, into scratch.exact and
/// scratch.time.
void Player::solve_run(const std::deque<Batch>& batches, std::size_t first, std::size_t count,
                       const Group& group, std::size_t layer, Scratch& scratch) const {
  if (!group.needs_exact && !group.needs_time) return;
  const SplitProblem& problem = group.layers[layer].problem;
  const auto experts = static_cast<std::size_t>(shape_.num_logical);
  scratch.run_load.clear();
  for (std::size_t i = first; i < first + count; ++i) {
    const std::span<const Load> load = layer_of(batches[i].load, layer, experts);
    scratch.run_load.insert(scratch.run_load.end(), load.begin(), load.end());
  }
  const auto solve_by = [&](const SolveOptions& options, Run& run) {
    solve_all(problem, scratch.run_load, scratch.workspace, options, run);
  };
  if (group.needs_exact) solve_by(exact_options_, scratch.exact);
  if (group.needs_time) solve_by(time_options_, scratch.time);
}

/// Solves the batches of `loads` [run, num_logical] into `run`.
void Player::solve_all(const SplitProblem& problem, const std::vector<Load>& loads,
                       Workspace& workspace, const SolveOptions& options, Run& run) {
  using Clock = std::chrono::steady_clock;
  const std::size_t count = loads.size() / static_cast<std::size_t>(problem.num_logical());
  run.split.resize(count * static_cast<std::size_t>(problem.num_physical()));
  run.summary.resize(count);
  const auto begin = Clock::now();
  solve_batch(problem, loads, run.split, run.summary, workspace, options);
  const std::chrono::duration<double, std::micro> took = Clock::now() - begin;
  run.us = took.count() / static_cast<double>(count);
}

/// Sets state.shares to the exact split of `batch` over the current placement. This is needed after
/// a rebalance, because the batch was split over another placement.
void Player::take_shares(const Batch& batch, Layer& state, std::size_t layer,
                         Scratch& scratch) const {
  state.shares.resize(static_cast<std::size_t>(state.placement.num_physical()));
  scratch.exact.summary.resize(1);
  solve_batch(state.problem,
              layer_of(batch.load, layer, static_cast<std::size_t>(shape_.num_logical)),
              state.shares, scratch.exact.summary, scratch.workspace, exact_options_);
}

/// The layer's window of batches before batches[end], or nothing if it has no tokens. The sum of
/// the loads is in `sum`.
std::optional<Past> Player::past_of(const std::deque<Batch>& batches, std::size_t end,
                                    const Group& group, std::size_t layer,
                                    std::vector<double>& sum) const {
  const auto experts = static_cast<std::size_t>(shape_.num_logical);
  const auto window = static_cast<std::size_t>(options_.window);
  sum.assign(experts, 0.0);
  bool any = false;
  Past past{.load = sum, .in_use = &group.layers[layer].placement};
  for (std::size_t i = end - std::min(end, window); i < end; ++i) {
    any |= batches[i].has_tokens[layer] != 0;
    past.batches.push_back(layer_of(batches[i].load, layer, experts));
    for (std::size_t e = 0; e < experts; ++e) sum[e] += static_cast<double>(past.batches.back()[e]);
  }
  return any ? std::optional(std::move(past)) : std::nullopt;
}

/// Chooses the layer's placement again, from the window of batches before batches[past]. Writes
/// what moved. If the window has no tokens, or the policy decides so, the placement stays.
void Player::rebalance(const std::deque<Batch>& batches, std::size_t past, Group& group,
                       std::size_t layer, Scratch& scratch, PlacementOutcome& out) const {
  const std::optional<Past> window = past_of(batches, past, group, layer, scratch.past_load);
  if (!window) return;
  Layer& state = group.layers[layer];
  Placement next = group.policy->place(static_cast<Index>(layer), *window);
  out.decision = group.policy->decision(static_cast<Index>(layer));
  if (group.policy->decides() && out.decision.kind == Rebalance::kKeep) return;
  out.moved = 0;
  if (next.physical_to_logical == state.placement.physical_to_logical) return;
  out.moved = count_fetched(state.placement, next, scratch.held_by);
  if (options_.controller) out.rounds = count_rounds(state.placement, next);
  state.placement = std::move(next);
  state.problem.assign(state.placement);
  for (const auto& dynamic : state.dynamic) {
    if (dynamic) dynamic->assign(state.placement);
  }
  state.shares.clear();
}

std::vector<Placement> Player::next_placement(std::size_t policy, const std::deque<Batch>& past) {
  const Group& group = groups_[members_[policy].placement];
  std::vector<Placement> layers;
  for (std::size_t layer = 0; layer < num_layers_; ++layer) {
    std::optional<Past> window;
    if (group.policy->adapts()) {
      window = past_of(past, past.size(), group, layer, scratch_[0].past_load);
    }
    layers.push_back(window ? group.policy->place(static_cast<Index>(layer), *window)
                            : group.layers[layer].placement);
  }
  return layers;
}

/// One policy's split of one layer, of the i-th batch of the run: [num_physical].
std::span<const Load> Player::split(const Batch& batch, const Layer& state, std::size_t layer,
                                    SplitKind kind, std::size_t i, Scratch& scratch) const {
  if (kind == SplitKind::kExact) return scratch.exact.of(i);
  if (kind == SplitKind::kTime) return scratch.time.of(i);
  const std::span<const Load> load =
      layer_of(batch.load, layer, static_cast<std::size_t>(shape_.num_logical));
  const std::span<const Load> shares =  // empty if there is no previous batch
      i == 0 ? std::span<const Load>(state.shares) : scratch.exact.of(i - 1);
  scratch.other_split.resize(static_cast<std::size_t>(state.placement.num_physical()));
  if (kind == SplitKind::kStale && !shares.empty()) {
    split_by_shares(state.placement, shares, load, scratch.other_split);
  } else {
    split_evenly(state.placement, load, scratch.other_split);
  }
  return scratch.other_split;
}

/// The figures of one policy's split of the i-th batch of the run.
PolicyOutcome Player::judge_split(const Batch& batch, const Group& group, std::size_t layer,
                                  SplitKind kind, std::size_t i, std::span<double> heat,
                                  Scratch& scratch) const {
  const Layer& state = group.layers[layer];
  const std::span<const Load> taken = split(batch, state, layer, kind, i, scratch);
  PolicyOutcome outcome =
      judge(state.placement, taken, scratch.exact.summary[i].lower_bound,
            sources_of(batch, layer, heat.size() * scratch.taken.size()), scratch.rank_load, heat);
  if (!options_.cost) return outcome;
  const double bound = scratch.time.summary[i].cost_lower_bound;
  outcome.cost = slowest_cost(state.placement, taken, group.curves, scratch.taken) /
                 static_cast<double>(kCostsPerUnit);
  outcome.cost_gap = bound > 0 ? outcome.cost / bound - 1 : 0;
  return outcome;
}

/// The same with copies for the batch. By time they are made only if the batch then costs less,
/// what copying costs included.
PolicyOutcome Player::judge_copies(const Batch& batch, const Group& group, std::size_t layer,
                                   DynamicSplit& dynamic, std::size_t i, std::span<double> heat,
                                   Scratch& scratch) const {
  const Layer& state = group.layers[layer];
  const std::size_t experts = scratch.taken.size();
  const auto cost_of = [&](const Placement& placement, std::span<const Load> taken) {
    return slowest_cost(placement, taken, group.curves, scratch.taken) /
           static_cast<double>(kCostsPerUnit);
  };
  const std::span<const Load> sources = sources_of(batch, layer, heat.size() * experts);
  dynamic.run(layer_of(batch.load, layer, experts), !sources.empty());
  double cost = options_.cost ? cost_of(dynamic.placement(), dynamic.split()) : 0;
  if (dynamic.by_time()) {
    const double without = cost_of(state.placement, scratch.time.of(i));
    if (without <= cost + dynamic.copies().exposed_us) {
      dynamic.make_no_copies(scratch.time.of(i), scratch.time.summary[i]);
      cost = without;
    }
  }
  PolicyOutcome outcome = judge(dynamic.placement(), dynamic.split(), dynamic.bound(), sources,
                                scratch.rank_load, heat);
  outcome.copies = dynamic.copies();
  if (!options_.cost) return outcome;
  const double bound = dynamic.cost_bound();
  outcome.cost_gap = bound == 0 ? 0 : cost / bound - 1;
  outcome.cost = cost + outcome.copies.exposed_us;
  return outcome;
}

}  // namespace lplb::replay
