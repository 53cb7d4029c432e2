// SPDX-License-Identifier: MIT
#include <algorithm>
#include <cmath>
#include <limits>
#include <span>

#include "core/format.h"
#include "lplb/homes.h"
#include "place_job.h"
#include "simulate/report/markup.h"

// Runs the policy of `lplb place`, after the options that only some policies take are checked.
namespace lplb::app {
namespace {

using report::counted;

/// The numbers of slots near `slots` that would do, for a message: at least `least`, and a multiple
/// of the ranks.
std::string slots_that_do(std::int64_t slots, std::int64_t least, Index num_ranks) {
  const std::int64_t below = slots / num_ranks * num_ranks;
  const std::int64_t above = below + num_ranks;
  return below >= least ? formatted("--num-replicas {} or {} would do", below, above)
                        : formatted("--num-replicas {} would do",
                                    (least + num_ranks - 1) / num_ranks * num_ranks);
}

/// The number of slots of all ranks, with eplb.
Index num_slots(const PlaceOptions& options, const PlaceJob& job) {
  if (options.num_replicas && options.redundants) {
    throw ArgumentError("--redundants", "says the same as --num-replicas, expected one of them");
  }
  const std::int64_t num_logical = job.num_logical;
  const char* option = "--num-replicas";
  std::string what;
  std::int64_t slots = 0;
  if (options.num_replicas) {
    slots = *options.num_replicas;
    what = formatted("{}", slots);
  } else if (options.redundants) {
    option = "--redundants";
    slots = num_logical + std::int64_t{*options.redundants} * job.num_ranks;
    what = formatted("{} on each of {} ranks make {} slots for {} experts, which",
                     *options.redundants, job.num_ranks, slots, num_logical);
  } else if (!job.from.empty()) {
    for (const Placement& old : job.from) {
      if (old.num_physical() == job.from[0].num_physical()) continue;
      throw ArgumentError(option,
                          formatted("is required, because the layers of {} have different "
                                    "numbers of slots, such as {} and {}",
                                    options.from, job.from[0].num_physical(), old.num_physical()));
    }
    slots = std::int64_t{job.from[0].slots_per_rank()} * job.num_ranks;
    what = formatted("is not given, and the {} slots of a rank of {} make {}, which",
                     job.from[0].slots_per_rank(), options.from, slots);
  } else {
    throw ArgumentError(option, formatted("is required for {}, or --redundants", options.policy));
  }
  const auto live = static_cast<std::int64_t>(
      job.group.rank_alive.empty()
          ? job.num_ranks
          : std::count(job.group.rank_alive.begin(), job.group.rank_alive.end(), 1));
  // Every rank has as many slots as the live ranks need.
  const std::int64_t least = (num_logical + live - 1) / live * job.num_ranks;
  if (slots > kMaxPhysical) {
    throw ArgumentError(
        option, formatted("makes {} physical experts, expected at most {}", slots, kMaxPhysical));
  }
  if (slots % job.num_ranks != 0) {
    throw ArgumentError(option,
                        formatted("{} is not a multiple of num_ranks ({}); {}", what, job.num_ranks,
                                  slots_that_do(slots, least, job.num_ranks)));
  }
  if (slots < least) {
    throw ArgumentError(
        option,
        formatted("{} is too few: {} must hold {}; {}", what, counted(live, "live rank"),
                  counted(num_logical, "expert"), slots_that_do(slots, least, job.num_ranks)));
  }
  return static_cast<Index>(slots);
}

/// The redundants of each rank, along a topology.
Index num_redundants(const PlaceOptions& options, const PlaceJob& job) {
  if (options.num_replicas) {
    throw ArgumentError("--num-replicas",
                        formatted("is for eplb; {} takes --redundants", options.policy));
  }
  if (!options.redundants) {
    throw ArgumentError("--redundants", formatted("is required for {}", options.policy));
  }
  if (options.spread) {
    throw ArgumentError(
        "--spread",
        formatted("is for eplb; {} never puts an expert on a rank twice", options.policy));
  }
  if (job.topology && job.num_ranks % job.topology->group_size == 0 &&
      job.num_logical % job.num_ranks != 0) {
    throw FileError(
        source_of(options), options.load.empty() ? "" : "key load",
        formatted("has {} experts{}, expected a multiple of the {} ranks", job.num_logical,
                  options.load.empty() ? "" : " a row", job.num_ranks));
  }
  return *options.redundants;
}

PlaceResult place_on_homes(const PlaceOptions& options, const PlaceJob& job) {
  if (options.spread) {
    throw ArgumentError("--spread", "is for eplb; homes never puts an expert on a rank twice");
  }
  HomesOptions how{.num_threads = options.threads,
                   .max_moves = options.max_moves.value_or(-1),
                   .max_bytes = options.max_bytes.value_or(-1),
                   .expert_bytes = options.expert_bytes.value_or(0),
                   .move_homes = options.move_homes,
                   .dynamic_slots = options.dynamic_slots.value_or(0),
                   .num_domains = options.dynamic_slots ? job.group.num_nodes : 1,
                   .rank_speed = job.group.rank_speed,
                   .rank_alive = job.group.rank_alive};
  how.max_seconds = options.budget_seconds;
  if (std::isfinite(how.max_seconds)) how.max_trials = std::numeric_limits<std::int64_t>::max();
  if (options.budget) how.max_trials = *options.budget;
  const Index slots = num_slots(options, job);
  if (slots / job.num_ranks > job.num_logical) {
    throw ArgumentError(options.redundants ? "--redundants" : "--num-replicas",
                        formatted("makes {} slots on each rank for {} experts, so some would be on "
                                  "it twice",
                                  slots / job.num_ranks, job.num_logical));
  }
  std::vector<double> loads;
  for (const std::vector<Load>& batch : job.batches) {
    for (const Load w : batch) loads.push_back(static_cast<double>(w));
  }
  if (job.batches.empty()) loads = job.load.values;
  const auto search = [&](Backend backend) {
    how.backend = backend;
    return place_homes(loads, static_cast<Index>(std::max<std::size_t>(1, job.batches.size())),
                       static_cast<Index>(job.load.rows), job.num_logical, slots, job.num_ranks,
                       job.from, how);
  };
  PlaceResult result;
  HomesPlacement placed;
  try {
    placed = search(job.backend);
  } catch (const ArgumentError& e) {
    if (e.argument() != "backend") throw;
    const std::string problem = std::string(e.what()).substr(e.argument().size() + 2);
    if (options.backend != "auto") throw ArgumentError("--backend", problem);
    result.refused = problem;
    placed = search(Backend::kCpu);
  }
  result.maps = std::move(placed.maps);
  result.exact = std::move(placed.imbalance);
  result.exact_name = options.dynamic_slots ? "with copies" : "exact split";
  return result;
}

}  // namespace

PlaceResult place(const PlaceOptions& options, const PlaceJob& job) {
  if (options.policy == kHomes) return place_on_homes(options, job);
  const RebalanceOptions how{.num_threads = options.threads,
                             .spread = options.spread,
                             .rank_speed = job.group.rank_speed,
                             .rank_alive = job.group.rank_alive};
  const auto num_layers = static_cast<Index>(job.load.rows);
  if (job.topology) {
    return {
        place_on_topology(job.load.values, num_layers, job.num_logical, *job.topology,
                          num_redundants(options, job), job.num_ranks, job.group.num_nodes, how),
        {}};
  }
  return {rebalance_experts(job.load.values, num_layers, job.num_logical, num_slots(options, job),
                            options.num_groups, job.group.num_nodes, job.num_ranks, how),
          {}};
}

}  // namespace lplb::app
