// SPDX-License-Identifier: MIT
#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "core/check.h"
#include "core/made.h"
#include "core/parallel.h"
#include "lplb/homes.h"
#include "placement/checks.h"
#include "placement/homes_search.h"
#include "placement/homes_start.h"
#include "placement/homes_window.h"
#include "placement/live_ranks.h"
#include "placement/maps.h"

namespace lplb {
namespace {

using namespace placement;

constexpr Index kMaxBatches = 1 << 12;
constexpr std::int64_t kSlowest = kUnitSpeed / 1024;  // slower ranks are taken to be this fast

/// A change must lower the mean imbalance by so much, so that no trial is spent on less.
constexpr double kLeastGain = 5e-5;

/// The move of a home must gain so many times as much as that of a replica.
constexpr double kHomePrice = 3;

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
  check_argument(std::isfinite(options.min_gain) && options.min_gain >= 0, "min_gain",
                 "{} is not a finite number >= 0", options.min_gain);
  for (const PinnedExpert& pin : options.pinned) {
    check_argument(pin.expert >= 0 && pin.expert < num_logical, "pinned",
                   "{} is no expert, expected 0 to {}", pin.expert, num_logical - 1);
    check_argument(std::binary_search(live.ranks.begin(), live.ranks.end(), pin.rank), "pinned",
                   "expert {} is pinned to {}, which is no live rank", pin.expert, pin.rank);
  }
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

/// The judge's value of a perfect placement.
double perfect(const HomesShape& shape, std::int64_t weight) {
  std::int64_t speed = 0;
  for (const std::int64_t s : shape.speed) speed += s;
  const double ranks = shape.speed.empty()
                           ? static_cast<double>(shape.num_ranks)
                           : static_cast<double>(speed) / static_cast<double>(kUnitSpeed);
  return static_cast<double>(weight) * static_cast<double>(kBatchLoad) / ranks;
}

/// Places one layer after another; each thread has one.
class LayerPlacer {
 public:
  LayerPlacer(const HomesShape& shape, const LiveRanks& live, const HomesOptions& options)
      : shape_(shape), live_(live), options_(options) {}

  /// Writes the experts [num_slots of live ranks], and item `layer` of the result's other figures.
  void run(const std::vector<std::span<const double>>& batches, const Placement* old, Index layer,
           std::span<Index> experts, HomesPlacement& result) const {
    const HomesWindow window = make_window(batches, shape_.num_logical, options_.batches_only);
    const HomesStart start = start_of_homes(shape_, live_.ranks, window.mean, old, options_);
    WindowJudge judge(shape_, window.load, window.weight);
    judge.assign(start.experts);
    const std::int64_t weight = window.sum_of_weights();
    const double best = perfect(shape_, weight);
    const auto imbalance = [best](double value) { return best > 0 ? value / best : 1.0; };
    result.judged_before[layer] = imbalance(static_cast<double>(judge.value()));

    const auto gain_of = [best](double gain) {
      return static_cast<std::int64_t>(std::min(gain, 1e6) * best);
    };
    const SearchLimits limits{.max_trials = options_.max_trials,
                              .max_moves = options_.max_moves < 0
                                               ? std::numeric_limits<Index>::max()
                                               : options_.max_moves,
                              .least_gain = std::max<std::int64_t>(1, gain_of(kLeastGain)),
                              .move_gain = gain_of(options_.min_gain),
                              .home_gain = gain_of(kHomePrice * options_.min_gain),
                              .move_homes = options_.move_homes};
    HomesSearch search(shape_, start, limits, judge);
    result.trials[layer] = search.run();
    result.moves[layer] = static_cast<Index>(search.num_moves());
    result.judged[layer] = imbalance(static_cast<double>(judge.value()));
    double sum = 0;
    for (Index b = 0; b < window.num_recorded; ++b) sum += static_cast<double>(judge.level(b));
    result.imbalance[layer] =
        window.num_recorded == 0 ? 1.0 : sum / perfect(shape_, window.num_recorded);
    std::copy(judge.experts().begin(), judge.experts().end(), experts.begin());
    keep_slots(start, experts);
  }

 private:
  /// Puts experts that are still on their rank back into their slots, among those of a kind.
  void keep_slots(const HomesStart& start, std::span<Index> experts) const {
    for (Index p = 0; p < shape_.num_slots(); ++p) {
      const Index first = p / shape_.slots * shape_.slots;
      for (Index q = first; q < first + shape_.slots; ++q) {
        if (experts[q] == start.experts[p] && start.fixed[q] == start.fixed[p]) {
          std::swap(experts[p], experts[q]);
          break;
        }
      }
    }
  }

  const HomesShape& shape_;
  const LiveRanks& live_;
  const HomesOptions& options_;
};

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
  const HomesShape shape = shape_of(live, slots, num_logical);
  check_live_slots(live, shape.num_slots(), num_logical);

  HomesPlacement result;
  for (auto* figure : {&result.judged, &result.judged_before, &result.imbalance}) {
    figure->resize(layers);
  }
  result.moves.resize(layers);
  result.trials.resize(layers);
  std::vector<Index> experts(layers * static_cast<std::size_t>(shape.num_slots()));
  const LayerPlacer placer(shape, live, options);
  parallel_chunks(
      num_layers, 1, options.num_threads, [&](std::int64_t begin, std::int64_t end, int) {
        for (auto layer = static_cast<std::size_t>(begin); layer < static_cast<std::size_t>(end);
             ++layer) {
          std::vector<std::span<const double>> batches;
          for (std::size_t at = layer * width; at < loads.size(); at += layers * width) {
            batches.push_back(loads.subspan(at, width));
          }
          placer.run(batches, from.empty() ? nullptr : &from[layer], static_cast<Index>(layer),
                     std::span(experts).subspan(layer * shape.num_slots(), shape.num_slots()),
                     result);
        }
      });
  result.maps = maps_of_slots(std::move(experts), num_layers, num_logical);
  if (shape.num_ranks < num_ranks) {
    result.maps = with_dead_ranks(result.maps, live, num_ranks);
  }
  return result;
}

}  // namespace lplb
