// SPDX-License-Identifier: MIT
#include "lplb/controller.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <utility>
#include <vector>

#include "core/check.h"
#include "core/made.h"
#include "lplb/homes.h"
#include "lplb/load_history.h"
#include "lplb/schedule.h"
#include "placement/batch_value.h"
#include "placement/homes_window.h"

namespace lplb {
namespace {

using namespace placement;

constexpr Index kMaxPhases = 8;
/// What a predicted gain is multiplied by before there is any experience, and at least.
constexpr double kFirstTrust = 0.5;
constexpr double kLeastTrust = 0.1;
/// The expected life is at most so many times the option.
constexpr double kMaxLives = 16;
/// A gain must be so many times its standard error.
constexpr double kErrors = 2;
/// A decision needs so many batches of a phase, or a full window.
constexpr Index kEnough = 2;
/// How much of the part of a phase in all batches is forgotten with each batch.
constexpr double kForget = 1.0 / 64;

void check_options(const ControllerOptions& o) {
  check_argument(o.window >= 1 && o.window <= kMaxHistoryWindow, "window",
                 "{} is not between 1 and {}", o.window, kMaxHistoryWindow);
  check_argument(o.interval >= 1, "interval", "{} is not >= 1", o.interval);
  check_argument(std::isfinite(o.round_cost) && o.round_cost >= 0, "round_cost",
                 "{} is not a finite number >= 0", o.round_cost);
  check_argument(std::isfinite(o.life) && o.life > 0, "life", "{} is not a finite number > 0",
                 o.life);
  check_argument(std::isfinite(o.min_gain) && o.min_gain >= 0, "min_gain",
                 "{} is not a finite number >= 0", o.min_gain);
  check_argument(!o.even_split || !o.cost, "even_split", "excludes cost");
  check_argument(o.num_phases >= 1 && o.num_phases <= kMaxPhases, "num_phases",
                 "{} is not between 1 and {}", o.num_phases, kMaxPhases);
  check_argument(o.min_tokens >= 1, "min_tokens", "{} is not >= 1", o.min_tokens);
  check_argument(o.max_trials >= 0, "max_trials", "{} is not >= 0", o.max_trials);
}

/// A batch of the window, and what it is worth with the placement in use.
struct WeighedBatch {
  std::vector<Load> load;
  BatchValue::Value now;
  std::vector<double> share;  // of the load, by expert
  double weight = 0;          // in the window of its phase; they sum to one
};

struct Phase {
  std::deque<WeighedBatch> window;
  double part = 0;  // of all batches

  void add(WeighedBatch batch, std::size_t most);
};

/// Takes a batch. The others count the more, the more they resemble it.
void Phase::add(WeighedBatch batch, std::size_t most) {
  const std::vector<double> load(batch.load.begin(), batch.load.end());
  to_shares(load, batch.share);
  window.push_back(std::move(batch));
  if (window.size() > most) window.pop_front();
  double sum = 0;
  for (WeighedBatch& b : window) {
    b.weight = static_cast<double>(weight_of(b.share, window.back().share));
    sum += b.weight;
  }
  for (WeighedBatch& b : window) b.weight /= sum;
}

/// A change that could be made.
struct Change {
  Rebalance kind = Rebalance::kKeep;
  Placement placement;
  double gain = 0;   // the mean over the window
  double error = 0;  // its standard error
  Index moves = 0;
  Index rounds = 0;
};

}  // namespace

const char* rebalance_name(Rebalance kind) {
  switch (kind) {
    case Rebalance::kReplicas:
      return "replicas";
    case Rebalance::kAll:
      return "all";
    default:
      return "keep";
  }
}

struct RebalanceController::State {
  State(const Placement& placement, const ControllerOptions& given)
      : options(given),
        value(options.cost, options.even_split),
        now(placement),
        problem(now),
        proposed(placement),
        before(placement),
        before_problem(before),
        candidate_problem(now) {
    phases.resize(static_cast<std::size_t>(options.num_phases));
    stats.life = options.life;
    stats.trust = kFirstTrust;
  }
  State(const State&) = delete;  // `value` points into `options`
  State& operator=(const State&) = delete;

  double experience() const;
  double trust() const { return std::max(kLeastTrust, experience()); }
  double life() const;
  std::size_t most_batches() const;
  BatchValue::Value mean_now() const;
  std::vector<Placement> search(const Phase& phase, bool all) const;
  void compare(Change& change);
  Change best_change(RebalanceDecision& decision);
  double worth(const Change& change) const;

  ControllerOptions options;
  BatchValue value;
  Placement now;
  SplitProblem problem;
  Placement proposed;
  RebalanceDecision decision;
  Placement before;  // in use before the last rebalance
  SplitProblem before_problem;
  SplitProblem candidate_problem;
  std::vector<Phase> phases;
  ControllerStats stats;
  std::int64_t undecided = 0;  // batches since the last decision
  double gained = 0;           // the sum of measured gains since the last rebalance
};

/// The part of predicted gains that came true: earlier placements and that in use count alike. It
/// may be negative.
double RebalanceController::State::experience() const {
  if (stats.rebalances == 0 || stats.age == 0 || stats.predicted <= 0) return stats.trust;
  return (stats.trust + std::clamp(stats.measured / stats.predicted, -1.0, 1.0)) / 2;
}

/// For how many batches a placement is expected to stay. It has stayed as long as that in use.
double RebalanceController::State::life() const {
  const auto age = stats.rebalances == 0 ? 0.0 : static_cast<double>(stats.age);
  return std::min(std::max(stats.life, age), kMaxLives * options.life);
}

/// The batches in the window of the phase that has most.
std::size_t RebalanceController::State::most_batches() const {
  std::size_t most = 0;
  for (const Phase& phase : phases) most = std::max(most, phase.window.size());
  return most;
}

/// The mean over the windows, in which a phase counts by its part of all batches.
BatchValue::Value RebalanceController::State::mean_now() const {
  BatchValue::Value mean;
  for (const Phase& phase : phases) {
    for (const WeighedBatch& batch : phase.window) {
      mean.slowest += phase.part * batch.weight * batch.now.slowest;
      mean.mean += phase.part * batch.weight * batch.now.mean;
    }
  }
  return mean;
}

/// Places for a phase's window: from the placement in use, or all slots.
std::vector<Placement> RebalanceController::State::search(const Phase& phase, bool all) const {
  const Index experts = now.num_logical_experts;
  std::vector<double> loads;
  for (const WeighedBatch& batch : phase.window) {
    for (const Load w : batch.load) loads.push_back(static_cast<double>(w));
  }
  const auto batches = static_cast<Index>(phase.window.size());
  const auto made = [this](const ExpertMaps& maps) {
    return make_placement(
        now.num_ranks, now.num_logical_experts, maps.layer(0),
        {.num_nodes = now.num_nodes, .rank_speed = now.rank_speed, .rank_alive = now.rank_alive});
  };
  if (all && options.even_split) {
    std::vector<double> sum(static_cast<std::size_t>(experts));
    for (std::size_t i = 0; i < loads.size(); ++i) sum[i % sum.size()] += loads[i];
    return {keep_slots(now, made(rebalance_experts(
                                sum, 1, experts, now.num_physical(), 1, 1, now.num_ranks,
                                {.rank_speed = now.rank_speed, .rank_alive = now.rank_alive})))};
  }
  return {made(place_homes(loads, batches, 1, experts, now.num_physical(), now.num_ranks, {&now, 1},
                           {.max_trials = options.max_trials,
                            .max_moves = options.max_moves,
                            .move_homes = all,
                            .rank_speed = now.rank_speed,
                            .rank_alive = now.rank_alive})
                   .maps)};
}

/// Fills in what `change` gains over all windows, and what it moves.
void RebalanceController::State::compare(Change& change) {
  candidate_problem.assign(change.placement);
  double variance = 0;
  for (const Phase& phase : phases) {
    if (phase.window.empty()) continue;
    double mean = 0;
    double squares = 0;
    double weights = 0;  // the sum of their squares: one over how many batches they are worth
    for (const WeighedBatch& batch : phase.window) {
      const double gain =
          batch.now.slowest - value.of(change.placement, candidate_problem, batch.load).slowest;
      mean += batch.weight * gain;
      squares += batch.weight * gain * gain;
      weights += batch.weight * batch.weight;
    }
    change.gain += phase.part * mean;
    if (phase.window.size() > 1) {
      variance +=
          phase.part * phase.part * std::max(0.0, squares - mean * mean) * weights / (1 - weights);
    }
  }
  change.error = std::sqrt(variance);
  const std::vector<Move> moves = plan_moves(now, change.placement);
  const MoveSchedule rounds = schedule(moves, now, change.placement);
  change.rounds = static_cast<Index>(rounds.rounds.size());
  change.moves = static_cast<Index>(moves.size() - rounds.same_rank.size());
}

/// What the change wins over its life, after its price.
double RebalanceController::State::worth(const Change& change) const {
  return change.gain * trust() * life() - change.rounds * options.round_cost;
}

/// The change that is worth most, and its figures.
Change RebalanceController::State::best_change(RebalanceDecision& found) {
  Change best;
  for (const Phase& phase : phases) {
    if (phase.window.empty()) continue;
    for (const bool all : {false, true}) {
      if (all && !options.may_move_homes) continue;
      for (Placement& placement : search(phase, all)) {
        if (placement.physical_to_logical == now.physical_to_logical) continue;
        Change change{.kind = all ? Rebalance::kAll : Rebalance::kReplicas,
                      .placement = std::move(placement)};
        compare(change);
        if (best.kind == Rebalance::kKeep || worth(change) > worth(best)) best = std::move(change);
      }
    }
  }
  found.gain = best.gain;
  found.expected = best.gain * trust();
  found.price = best.rounds * options.round_cost;
  found.moves = best.moves;
  found.rounds = best.rounds;
  return best;
}

RebalanceController::RebalanceController(const Placement& placement,
                                         const ControllerOptions& options) {
  check_made(placement, "placement");
  check_options(options);
  state_ = std::make_unique<State>(placement, options);
  const std::vector<Load> none(static_cast<std::size_t>(placement.num_logical_experts), 0);
  state_->value.of(placement, state_->problem, none);  // throws if the cost does not fit
}

RebalanceController::~RebalanceController() = default;
RebalanceController::RebalanceController(RebalanceController&&) noexcept = default;
RebalanceController& RebalanceController::operator=(RebalanceController&&) noexcept = default;

void RebalanceController::add(std::span<const Load> load, Index phase) {
  State& s = *state_;
  check_argument(phase >= 0 && phase < s.options.num_phases, "phase", "{} is not between 0 and {}",
                 phase, s.options.num_phases - 1);
  check_argument(load.size() == static_cast<std::size_t>(s.now.num_logical_experts), "load",
                 "has {} entries, expected num_logical_experts ({})", load.size(),
                 s.now.num_logical_experts);
  Load total = 0;
  for (const Load w : load) {
    check_argument(w >= 0, "load", "has {}, expected >= 0", w);
    check_argument(!__builtin_add_overflow(total, w, &total), "load", "sums to more than 2^63 - 1");
  }
  if (total < s.options.min_tokens) {
    ++s.stats.ignored;
    return;
  }
  WeighedBatch batch{.load = {load.begin(), load.end()}, .now = s.value.of(s.now, s.problem, load)};
  ++s.stats.batches;
  ++s.stats.age;
  ++s.undecided;
  if (s.stats.rebalances > 0) {
    s.gained += s.value.of(s.before, s.before_problem, load).slowest - batch.now.slowest;
    s.stats.measured = s.gained / static_cast<double>(s.stats.age);
  }
  double parts = 0;
  for (Phase& p : s.phases) {
    p.part *= 1 - kForget;
    if (&p == &s.phases[phase]) p.part += kForget;
    parts += p.part;
  }
  for (Phase& p : s.phases) p.part /= parts;
  s.phases[phase].add(std::move(batch), static_cast<std::size_t>(s.options.window));
}

bool RebalanceController::is_due() const { return state_->undecided >= state_->options.interval; }

RebalanceDecision RebalanceController::decide() {
  State& s = *state_;
  ++s.stats.decisions;
  s.undecided = 0;
  RebalanceDecision& decision = s.decision;
  const BatchValue::Value now = s.mean_now();
  decision = {.load = now.slowest, .life = s.life()};
  const double least = s.options.min_gain * now.slowest;
  const double most = now.slowest - now.mean;  // what a perfect placement would gain
  if (now.slowest <= 0) {
    decision.reason = "there were no batches";
  } else if (s.most_batches() < static_cast<std::size_t>(std::min(s.options.window, kEnough))) {
    decision.reason = "there are too few batches yet";
  } else if (most <= least) {
    decision.reason = "the load is balanced";
  } else if (most * s.trust() * s.life() <= s.options.round_cost) {
    decision.reason = "not even a perfect placement would pay for a move";
  } else {
    Change best = s.best_change(decision);
    if (best.kind == Rebalance::kKeep) {
      decision.reason = "the search found nothing better";
    } else if (best.gain < least || best.gain <= kErrors * best.error) {
      decision.reason = "the gain is too small, or noise";
    } else if (s.worth(best) <= 0) {
      decision.reason = "the moves would cost more than they win";
    } else {
      decision.kind = best.kind;
      decision.reason = "it pays";
      s.proposed = std::move(best.placement);
    }
  }
  if (decision.kind == Rebalance::kKeep) s.proposed = s.now;
  return decision;
}

const Placement& RebalanceController::proposal() const { return state_->proposed; }

void RebalanceController::adopt() {
  State& s = *state_;
  if (s.decision.kind == Rebalance::kKeep) return;
  s.stats.trust = s.experience();
  if (s.stats.rebalances > 0) {
    s.stats.life =
        (std::min(s.stats.life, kMaxLives * s.options.life) + static_cast<double>(s.stats.age)) / 2;
  }
  ++s.stats.rebalances;
  s.stats.moves += s.decision.moves;
  s.stats.rounds += s.decision.rounds;
  s.stats.predicted = s.decision.gain;
  s.stats.measured = s.gained = 0;
  s.stats.age = 0;
  std::swap(s.before, s.now);
  s.before_problem.assign(s.before);
  s.now = s.proposed;
  s.problem.assign(s.now);
  for (Phase& phase : s.phases) {
    for (WeighedBatch& batch : phase.window) batch.now = s.value.of(s.now, s.problem, batch.load);
  }
  s.decision = {};
}

const Placement& RebalanceController::placement() const { return state_->now; }

ControllerStats RebalanceController::stats() const {
  ControllerStats stats = state_->stats;
  stats.life = state_->life();
  stats.trust = state_->trust();
  return stats;
}

}  // namespace lplb
