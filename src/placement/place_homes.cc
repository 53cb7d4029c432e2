// SPDX-License-Identifier: MIT
#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <utility>

#include "core/check.h"
#include "core/made.h"
#include "core/parallel.h"
#include "lplb/homes.h"
#include "lplb/replicate.h"
#include "placement/checks.h"
#include "placement/device/args.h"
#include "placement/homes_layer.h"
#include "placement/live_ranks.h"
#include "placement/maps.h"

namespace lplb {
namespace {

using namespace placement;

constexpr Index kMaxBatches = 1 << 12;
constexpr std::int64_t kSlowest = kUnitSpeed / 1024;  // slower ranks are taken to be this fast

void check_sizes(Index num_batches, Index num_layers, Index num_logical, Index num_replicas,
                 Index num_ranks) {
  check_argument(num_batches >= 1 && num_batches <= kMaxBatches, "num_batches",
                 "{} is not between 1 and {}", num_batches, kMaxBatches);
  check_argument(num_layers >= 1, "num_layers", "{} is not >= 1", num_layers);
  check_argument(num_logical >= 1 && num_logical <= kMaxPhysical, "num_logical",
                 "{} is not between 1 and {}", num_logical, kMaxPhysical);
  check_argument(num_ranks >= 1 && num_ranks <= kMaxRanks, "num_ranks",
                 "{} is not between 1 and {}", num_ranks, kMaxRanks);
  check_argument(
      num_replicas >= num_logical && num_replicas <= kMaxPhysical && num_replicas % num_ranks == 0,
      "num_replicas", "{} is not a multiple of num_ranks ({}) between num_logical ({}) and {}",
      num_replicas, num_ranks, num_logical, kMaxPhysical);
  check_argument(num_replicas / num_ranks <= num_logical, "num_replicas",
                 "a rank has {} slots for {} experts, so some would be on it twice",
                 num_replicas / num_ranks, num_logical);
}

void check_options(const HomesOptions& options, Index num_logical, const LiveRanks& live) {
  check_argument(options.max_trials >= 0, "max_trials", "{} is not >= 0", options.max_trials);
  check_argument(options.max_seconds >= 0, "max_seconds", "{} is not >= 0", options.max_seconds);
  check_argument(options.max_bytes < 0 || options.expert_bytes > 0, "expert_bytes",
                 "{} is not >= 1, as max_bytes needs it", options.expert_bytes);
  check_argument(options.dynamic_slots >= 0 && options.dynamic_slots <= kMaxDynamicSlots,
                 "dynamic_slots", "{} is not between 0 and {}", options.dynamic_slots,
                 kMaxDynamicSlots);
  check_argument(options.num_domains >= 1, "num_domains", "{} is not >= 1", options.num_domains);
  check_argument(std::isfinite(options.min_gain) && options.min_gain >= 0, "min_gain",
                 "{} is not a finite number >= 0", options.min_gain);
  for (const PinnedExpert& pin : options.pinned) {
    check_argument(pin.expert >= 0 && pin.expert < num_logical, "pinned",
                   "{} is no expert, expected 0 to {}", pin.expert, num_logical - 1);
    check_argument(std::binary_search(live.ranks.begin(), live.ranks.end(), pin.rank), "pinned",
                   "expert {} is pinned to {}, which is no live rank", pin.expert, pin.rank);
  }
}

/// Checks the dynamic slots of a rank, in addition to `slots`.
void check_dynamic(const HomesOptions& options, Index slots, Index num_ranks) {
  if (options.dynamic_slots == 0) return;
  check_argument(num_ranks % options.num_domains == 0, "num_domains",
                 "{} does not divide num_ranks ({})", options.num_domains, num_ranks);
  check_argument((slots + options.dynamic_slots) * num_ranks <= kMaxPhysical, "dynamic_slots",
                 "{} and {} other slots on each of {} ranks make more than {}",
                 options.dynamic_slots, slots, num_ranks, kMaxPhysical);
}

/// Refuses what the device does not search.
void check_backend(const HomesOptions& options, const HomesShape& shape) {
  if (options.backend != Backend::kCuda) return;
  const char* const refused = options.dynamic_slots > 0 ? "dynamic slots"
                              : options.max_bytes >= 0  ? "a limit of bytes"
                              : !shape.speed.empty()    ? "unequal speeds"
                                                        : nullptr;
  check_argument(refused == nullptr, "backend", "cuda does not search with {}, only cpu does",
                 refused);
  check_argument(shape.num_ranks <= kSearchRanks && shape.num_slots() <= kSearchSlots, "backend",
                 "cuda takes at most {} live ranks and {} slots of them, not {} and {}",
                 kSearchRanks, kSearchSlots, shape.num_ranks, shape.num_slots());
}

void check_from(std::span<const Placement> from, Index num_layers, Index num_logical) {
  if (from.empty()) return;
  check_argument(from.size() == static_cast<std::size_t>(num_layers), "from",
                 "has {} placements, expected num_layers ({})", from.size(), num_layers);
  for (const Placement& old : from) {
    check_made(old, "from");
    check_argument(old.num_logical_experts == num_logical, "from",
                   "has {} logical experts, expected {}", old.num_logical_experts, num_logical);
  }
}

HomesShape shape_of(const LiveRanks& live, Index slots, Index num_logical) {
  HomesShape shape{.num_ranks = static_cast<Index>(live.ranks.size()),
                   .slots = slots,
                   .num_logical = num_logical,
                   .speed = {}};
  for (const double speed : live.speed) {
    shape.speed.push_back(
        std::max(kSlowest, static_cast<std::int64_t>(speed * static_cast<double>(kUnitSpeed))));
  }
  return shape;
}

/// How many steps of each layer are taken: [layers].
std::vector<std::size_t> chosen_steps(const LayerPlacer& placer, const HomesOptions& options,
                                      const std::vector<FoundSteps>& found) {
  std::vector<std::size_t> count;
  std::int64_t moves = 0;  // of the starts
  for (const FoundSteps& layer : found) {
    count.push_back(layer.steps.size());
    moves += layer.moves;
  }
  if (options.max_bytes < 0) return count;
  std::vector<std::vector<StepChoice>> choices;
  choices.reserve(found.size());
  for (const FoundSteps& layer : found) choices.push_back(placer.choices(layer));
  return choose_steps(choices,
                      std::max<std::int64_t>(0, options.max_bytes / options.expert_bytes - moves));
}

/// Calls body(layer) for each layer, on several threads.
template <class Body>
void each_layer(int num_threads, std::size_t layers, const Body& body) {
  parallel_chunks(static_cast<std::int64_t>(layers), 1, num_threads,
                  [&](std::int64_t begin, std::int64_t end, int) {
                    for (; begin < end; ++begin) body(static_cast<std::size_t>(begin));
                  });
}

/// The maps of `experts` [num_layers, num_slots]; an expert's replicas ascend.
ExpertMaps maps_of_slots(std::vector<Index> experts, Index num_layers, Index num_logical) {
  ExpertMaps maps{.num_layers = num_layers,
                  .num_physical = static_cast<Index>(experts.size()) / num_layers,
                  .num_logical = num_logical,
                  .max_replicas = 0,
                  .physical_to_logical = std::move(experts),
                  .logical_to_physical = {},
                  .replica_count = {}};
  const auto logical = static_cast<std::size_t>(num_logical);
  const auto physical = static_cast<std::size_t>(maps.num_physical);
  maps.replica_count.assign(static_cast<std::size_t>(num_layers) * logical, 0);
  std::vector<Index> ordinal(maps.physical_to_logical.size());
  for (std::size_t i = 0; i < ordinal.size(); ++i) {
    const auto expert = static_cast<std::size_t>(maps.physical_to_logical[i]);
    ordinal[i] = maps.replica_count[i / physical * logical + expert]++;
  }
  invert(ordinal, maps);
  return maps;
}

}  // namespace

HomesPlacement place_homes(std::span<const double> loads, Index num_batches, Index num_layers,
                           Index num_logical, Index num_replicas, Index num_ranks,
                           std::span<const Placement> from, const HomesOptions& options) {
  check_sizes(num_batches, num_layers, num_logical, num_replicas, num_ranks);
  const auto width = static_cast<std::size_t>(num_logical);
  const auto layers = static_cast<std::size_t>(num_layers);
  check_argument(loads.size() == static_cast<std::size_t>(num_batches) * layers * width, "loads",
                 "has {} entries, expected num_batches * num_layers * num_logical ({} * {} * {})",
                 loads.size(), num_batches, num_layers, num_logical);
  for (std::size_t batch = 0; batch < loads.size(); batch += layers * width) {
    check_load(loads.subspan(batch, layers * width), num_layers, num_logical, options.num_threads);
  }
  check_from(from, num_layers, num_logical);
  const LiveRanks live = live_ranks_of(
      {.rank_speed = options.rank_speed, .rank_alive = options.rank_alive}, num_ranks, 1);
  check_options(options, num_logical, live);
  const Index slots = num_replicas / num_ranks;
  check_dynamic(options, slots, num_ranks);
  const HomesShape shape = shape_of(live, slots, num_logical);
  check_live_slots(live, shape.num_slots(), num_logical);
  check_backend(options, shape);

  HomesPlacement result;
  for (auto* figure : {&result.judged, &result.judged_before, &result.imbalance}) {
    figure->resize(layers);
  }
  result.moves.resize(layers);
  result.trials.resize(layers);
  std::vector<Index> experts(layers * static_cast<std::size_t>(shape.num_slots()));
  const LayerPlacer placer(shape, live.ranks, num_ranks, options);
  const SearchClock::time_point begin = SearchClock::now();
  TimeShares shares(options.max_seconds, layers, options.num_threads);
  std::vector<FoundSteps> found(layers);
  each_layer(options.num_threads, layers, [&](std::size_t layer) {
    std::vector<std::span<const double>> batches;
    for (std::size_t at = layer * width; at < loads.size(); at += layers * width) {
      batches.push_back(loads.subspan(at, width));
    }
    const SearchClock::time_point deadline = shares.next();
    found[layer] = placer.begin(batches, from.empty() ? nullptr : &from[layer]);
    if (options.backend == Backend::kCuda) return;
    result.trials[layer] = placer.search(found[layer], deadline);
  });
  if (options.backend == Backend::kCuda) {
    const std::chrono::duration<double> used = SearchClock::now() - begin;
    result.trials = placer.search_on_device(found, options.max_seconds - used.count());
  }
  const std::vector<std::size_t> count = chosen_steps(placer, options, found);
  each_layer(options.num_threads, layers, [&](std::size_t layer) {
    placer.finish(found[layer], count[layer], static_cast<Index>(layer),
                  std::span(experts).subspan(layer * shape.num_slots(), shape.num_slots()), result);
  });
  result.maps = maps_of_slots(std::move(experts), num_layers, num_logical);
  if (shape.num_ranks < num_ranks) {
    result.maps = with_dead_ranks(result.maps, live, num_ranks);
  }
  return result;
}

}  // namespace lplb
