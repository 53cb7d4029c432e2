// SPDX-License-Identifier: MIT
#include "placement/homes_layer.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "core/format.h"
#include "placement/copies_judge.h"
#include "placement/device/device_search.h"

namespace lplb::placement {
namespace {

/// A change must lower the mean imbalance by so much, so that no trial is spent on less.
constexpr double kLeastGain = 5e-5;

/// The move of a home must gain so many times as much as that of a replica.
constexpr double kHomePrice = 3;

/// The next limit of moves: 1, 2, 3, 4, 6, 8, 12 and so on.
std::int64_t next_limit(std::int64_t moves) {
  return moves < 4 ? moves + 1 : moves % 3 == 0 ? moves / 3 * 4 : moves / 2 * 3;
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

}  // namespace

std::unique_ptr<HomesJudge> LayerPlacer::make_judge(const HomesWindow& window) const {
  if (options_.dynamic_slots == 0) {
    return std::make_unique<WindowJudge>(shape_, window.load, window.weight);
  }
  return std::make_unique<CopiesJudge>(shape_,
                                       DynamicShape{.dynamic_slots = options_.dynamic_slots,
                                                    .num_domains = options_.num_domains,
                                                    .num_ranks = num_ranks_,
                                                    .live = live_},
                                       window.load, window.weight);
}

FoundSteps LayerPlacer::begin(const std::vector<std::span<const double>>& batches,
                              const Placement* old) const {
  FoundSteps found;
  found.window = make_window(batches, shape_.num_logical, options_.batches_only);
  found.start = start_of_homes(shape_, live_, found.window.mean, old, options_);
  return found;
}

SearchLimits LayerPlacer::limits_of(const HomesWindow& window) const {
  const double best = perfect(shape_, window.sum_of_weights());
  const auto gain_of = [best](double gain) {
    return static_cast<std::int64_t>(std::min(gain, 1e6) * best);
  };
  return {
      .max_trials = options_.max_trials,
      .max_moves = options_.max_moves < 0 ? std::numeric_limits<Index>::max() : options_.max_moves,
      .least_gain = std::max<std::int64_t>(1, gain_of(kLeastGain)),
      .move_gain = gain_of(options_.min_gain),
      .home_gain = gain_of(kHomePrice * options_.min_gain),
      .move_homes = options_.move_homes};
}

std::int64_t LayerPlacer::search(FoundSteps& found, SearchClock::time_point deadline) const {
  const std::unique_ptr<HomesJudge> judge = make_judge(found.window);
  judge->assign(found.start.experts);
  found.value = judge->value();
  SearchLimits limits = limits_of(found.window);
  limits.deadline = deadline;
  std::int64_t trials = 0;
  const auto run = [&] {
    HomesSearch search(shape_, found.start, limits, *judge);
    trials += search.run();
    found.moves = search.moves_of_start();
    found.begin.push_back(found.steps.size());
    found.steps.insert(found.steps.end(), search.steps().begin(), search.steps().end());
  };
  run();
  if (options_.max_bytes < 0 || found.steps.empty()) return trials;
  // A search that may make few moves makes better use of them than the first steps of one that
  // may make many.
  const std::int64_t most = found.steps.back().moves;
  for (std::int64_t moves = 1; found.moves + moves < most; moves = next_limit(moves)) {
    limits.max_moves = found.moves + moves;
    judge->assign(found.start.experts);
    run();
  }
  return trials;
}

std::vector<std::int64_t> LayerPlacer::search_on_device(std::span<FoundSteps> found,
                                                        double max_seconds) const {
  std::vector<LayerJob> jobs;
  std::vector<std::size_t> layer_of;
  for (std::size_t i = 0; i < found.size(); ++i) {
    found[i].moves = SearchSlots(shape_, found[i].start, false).moves_of_start;
    if (found[i].window.weight.empty()) continue;  // no load
    layer_of.push_back(i);
    jobs.push_back({&found[i].start, &found[i].window, limits_of(found[i].window)});
  }
  const std::vector<FoundLayer> layers = placement::search_on_device(shape_, jobs, max_seconds);
  std::vector<std::int64_t> trials(found.size(), 0);
  for (std::size_t i = 0; i < layers.size(); ++i) {
    FoundSteps& steps = found[layer_of[i]];
    const FoundLayer& layer = layers[i];
    steps.value = layer.value_of_start;
    for (Index p = 0; p < shape_.num_slots(); ++p) {
      if (layer.experts[p] == steps.start.experts[p]) continue;
      steps.steps.push_back({.edit = {{p, layer.experts[p]}},
                             .count = 1,
                             .value = layer.value,
                             .moves = layer.moves});
    }
    trials[layer_of[i]] = layer.trials;
  }
  return trials;
}

std::vector<StepChoice> LayerPlacer::choices(const FoundSteps& found) const {
  std::vector<StepChoice> choices;
  choices.reserve(found.steps.size());
  for (const SearchStep& step : found.steps) {
    const double gain = imbalance(found, step.value) - imbalance(found, found.value);
    choices.push_back({.moves = std::max<std::int64_t>(0, step.moves - found.moves),
                       .value = static_cast<std::int64_t>(gain * static_cast<double>(kBatchLoad))});
  }
  return choices;
}

void LayerPlacer::finish(const FoundSteps& found, std::size_t count, Index layer,
                         std::span<Index> experts, HomesPlacement& result) const {
  std::copy(found.start.experts.begin(), found.start.experts.end(), experts.begin());
  std::int64_t value = found.value;
  std::int64_t moves = found.moves;
  std::size_t first = 0;  // of the search that the last step is from
  for (const std::size_t begin : found.begin) first = begin < count ? begin : first;
  for (const SearchStep& step : std::span(found.steps).subspan(first, count - first)) {
    for (int i = 0; i < step.count; ++i) experts[step.edit[i].slot] = step.edit[i].expert;
    value = step.value;
    moves = step.moves;
  }
  result.judged_before[layer] = imbalance(found, found.value);
  result.judged[layer] = imbalance(found, value);
  result.moves[layer] = static_cast<Index>(moves);
  const std::unique_ptr<HomesJudge> judge = make_judge(found.window);
  judge->assign(experts);
  if (options_.backend == Backend::kCuda && judge->value() != value) {
    throw CudaError(formatted("the search on the device gives layer {} the value {}, which is {}",
                              layer, value, judge->value()));
  }
  double sum = 0;
  for (Index b = 0; b < found.window.num_recorded; ++b) sum += static_cast<double>(judge->level(b));
  result.imbalance[layer] =
      found.window.num_recorded == 0 ? 1.0 : sum / perfect(shape_, found.window.num_recorded);
  keep_slots(found.start, experts);
}

double LayerPlacer::imbalance(const FoundSteps& found, std::int64_t value) const {
  const double best = perfect(shape_, found.window.sum_of_weights());
  return best > 0 ? static_cast<double>(value) / best : 1.0;
}

/// Puts experts that are still on their rank back into their slots, among those of a kind.
void LayerPlacer::keep_slots(const HomesStart& start, std::span<Index> experts) const {
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

}  // namespace lplb::placement
