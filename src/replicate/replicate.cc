// SPDX-License-Identifier: MIT
#include "lplb/replicate.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "core/check.h"
#include "core/made.h"
#include "core/raise_to_fit.h"
#include "core/wide.h"
#include "replicate/between.h"
#include "replicate/copy_cost.h"
#include "replicate/domain.h"
#include "replicate/options.h"
#include "replicate/report.h"

// With several domains, the exact split between them comes first (between.cc). Then each domain is
// planned by itself (domain.cc), all for the same level.
namespace lplb {
namespace {

using replicas::Bound;
using replicas::Domain;

constexpr Load kMillion = 1'000'000;

Placement checked(const Placement& placement, const ReplicateOptions& options) {
  check_maps(placement, "placement");
  replicas::check_options(placement, options);
  return placement;
}

}  // namespace

struct Replicator::State {
  State(const Placement& placement, const ReplicateOptions& options);

  void run(std::span<const Load> load, Replication& out);

 private:
  void check_load(std::span<const Load> load);
  void begin(std::span<const Load> load);
  Level level_of(double target) const;
  void plan(Level start, Replication& out);
  void plan_cheapest(Replication& out);
  bool above(Level a, Level b) const { return cost_.compare(a, b) > 0; }

  Placement placement_;
  ReplicateOptions options_;
  RankCost cost_;
  std::vector<Index> live_ranks_;
  double live_speed_ = 0;
  Index fastest_ = 0, slowest_ = 0;  // of the live ranks
  std::optional<replicas::BetweenDomains> between_;
  std::vector<std::unique_ptr<Domain>> domains_;  // with live ranks

  Load total_ = 0;
  Bound first_bound_;  // what needs no search
  Bound bound_;
  std::vector<Load> part_;
  std::vector<Level> heap_;
  std::vector<Index> sent_;
  Replication trial_;
};

Replicator::State::State(const Placement& placement, const ReplicateOptions& options)
    : placement_(checked(placement, options)), options_(options) {
  cost_.assign(placement.num_ranks, placement.rank_speed);
  for (Index g = 0; g < placement.num_ranks; ++g) {
    if (!placement.alive(g)) continue;
    if (live_ranks_.empty()) fastest_ = slowest_ = g;
    live_ranks_.push_back(g);
    live_speed_ += placement.speed(g);
    if (cost_.speed(g) > cost_.speed(fastest_)) fastest_ = g;
    if (cost_.speed(g) < cost_.speed(slowest_)) slowest_ = g;
  }
  if (options.num_domains > 1) between_.emplace(placement, options.num_domains, cost_);
  const Index ranks = placement.num_ranks / options.num_domains;
  for (Index d = 0; d < options.num_domains; ++d) {
    auto domain = std::make_unique<Domain>(placement, d * ranks, ranks, options, cost_);
    if (domain->live()) domains_.push_back(std::move(domain));
  }
}

void Replicator::State::check_load(std::span<const Load> load) {
  check_argument(load.size() == static_cast<std::size_t>(placement_.num_logical_experts), "load",
                 "has {} entries, expected num_logical_experts ({})", load.size(),
                 placement_.num_logical_experts);
  total_ = 0;
  Load signs = 0;
  bool overflow = false;
  for (const Load tokens : load) {
    signs |= tokens;
    overflow |= __builtin_add_overflow(total_, tokens, &total_);
  }
  if (signs < 0) {
    const auto e = std::ranges::find_if(load, [](Load tokens) { return tokens < 0; });
    check_argument(false, "load", "expert {} has load {}, expected >= 0", e - load.begin(), *e);
  }
  check_argument(!overflow, "load", "the sum passes 2^63 - 1");
}

/// Gives each domain its part of the batch.
void Replicator::State::begin(std::span<const Load> load) {
  if (!between_) {
    domains_[0]->begin(load);
    first_bound_.level = raise_to_fit(cost_, live_ranks_, total_, heap_);
    first_bound_.ranks = live_ranks_;
    return;
  }
  between_->split(load);
  between_->bound(load, first_bound_);
  for (const auto& domain : domains_) {
    const replicas::DomainTables& t = domain->tables();
    between_->part(t.first_rank / t.num_ranks, part_);
    domain->begin(part_);
  }
}

/// `target` times the mean load / speed, rounded down to whole tokens of the fastest rank. If all
/// speeds are equal, `target` is taken in millionths, so that only integers are multiplied.
Level Replicator::State::level_of(double target) const {
  const auto count = static_cast<Load>(live_ranks_.size());
  if (cost_.uniform()) {
    const auto parts = static_cast<Load>(std::llround(target * static_cast<double>(kMillion)));
    const Int128 tokens = Int128{total_} * parts / (Int128{count} * kMillion);
    return {tokens > total_ ? total_ : static_cast<Load>(tokens), fastest_};
  }
  const double tokens =
      target * static_cast<double>(total_) * (cost_.speed(fastest_) / live_speed_);
  const bool all = tokens >= static_cast<double>(total_);
  return {all ? total_ : static_cast<Load>(tokens), fastest_};
}

/// Plans for a largest load of `start`, or what is nearest.
void Replicator::State::plan(Level start, Replication& out) {
  bound_ = first_bound_;
  if (above(bound_.level, start)) start = bound_.level;
  bool no_copies = between_ && !above(between_->without_copies().max_level, start);
  Level max{0, live_ranks_[0]};
  if (!no_copies) {
    for (const auto& domain : domains_) {
      // No plan of the domain is below its mean.
      const Level mean = raise_to_fit(cost_, domain->tables().live_ranks, domain->total(), heap_);
      if (above(mean, start)) start = mean;
    }
    for (const auto& domain : domains_) {
      domain->plan(start, bound_);
      if (above(domain->max(), max)) max = domain->max();
      if (above(max, start)) start = max;
    }
    no_copies = between_ && !above(between_->without_copies().max_level, max);
  }
  replicas::begin_report(placement_, options_.dynamic_slots, out);
  if (no_copies) {
    replicas::report_split(placement_, between_->without_copies(), out);
  } else {
    for (const auto& domain : domains_) replicas::report_domain(*domain, sent_, out);
  }
  replicas::finish_report(cost_, live_ranks_, placement_, bound_, out);
}

/// Plans without copies, for the target, and for larger ones, and takes the cheapest: of equal ones
/// that with the fewest copies, then the first. Stops when no plan can be cheaper.
void Replicator::State::plan_cheapest(Replication& out) {
  const CopyCost& c = options_.cost;
  const auto price = [&](const Replication& plan) {
    return replicas::batch_us(c, plan.max_load, std::max(plan.max_sent, plan.max_received));
  };
  plan({total_, slowest_}, out);
  const double none = price(out);
  const double bound = replicas::batch_us(c, cost_.price(first_bound_.level), 1);
  double least = none;
  const auto plan_for = [&](double target) {
    if (least <= bound) return false;
    plan(level_of(target), trial_);
    const double its = price(trial_);
    const Index copies = trial_.copies;
    if (its < least || (its == least && copies < out.copies)) {
      least = its;
      std::swap(out, trial_);
    }
    return copies > 0;
  };
  bool goes_on = plan_for(options_.target);
  for (const double target : replicas::kTargets) {
    if (goes_on && target > options_.target) goes_on = plan_for(target);
  }
  out.saved_us = none - out.max_load * c.us_per_token;
  out.exposed_us = replicas::exposed_us(c, std::max(out.max_sent, out.max_received));
}

void Replicator::State::run(std::span<const Load> load, Replication& out) {
  check_load(load);
  begin(load);
  out.saved_us = out.exposed_us = 0;
  if (options_.cost.us_per_token > 0) {
    plan_cheapest(out);
  } else {
    plan(level_of(options_.target), out);
  }
}

Replicator::Replicator(const Placement& placement, const ReplicateOptions& options)
    : state_(std::make_unique<State>(placement, options)) {}
Replicator::~Replicator() = default;
Replicator::Replicator(Replicator&&) noexcept = default;
Replicator& Replicator::operator=(Replicator&&) noexcept = default;

void Replicator::run(std::span<const Load> load, Replication& out) { state_->run(load, out); }

Replication replicate(const Placement& placement, std::span<const Load> load,
                      const ReplicateOptions& options) {
  Replication out;
  Replicator(placement, options).run(load, out);
  return out;
}

}  // namespace lplb
