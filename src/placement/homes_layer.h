// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "lplb/homes.h"
#include "placement/homes_budget.h"
#include "placement/homes_judge.h"
#include "placement/homes_search.h"
#include "placement/homes_start.h"
#include "placement/homes_window.h"

namespace lplb::placement {

/// What the searches of a layer have found: one search, or with a limit of bytes several, which may
/// make fewer moves.
struct FoundSteps {
  HomesStart start;
  HomesWindow window;
  std::vector<SearchStep> steps;   ///< of one search after another
  std::vector<std::size_t> begin;  ///< where the steps of each search begin
  std::int64_t value = 0;          ///< of the start, by the judge
  std::int64_t moves = 0;          ///< of the start: slots with an expert that is new on their rank
};

/// Searches layers for place_homes(), and takes the steps that are chosen. Several threads may use
/// it at once.
class LayerPlacer {
 public:
  /// `live` [shape.num_ranks]: the numbers of the live ranks, of `num_ranks`. All arguments must
  /// outlive the object.
  LayerPlacer(const HomesShape& shape, const std::vector<Index>& live, Index num_ranks,
              const HomesOptions& options)
      : shape_(shape), live_(live), num_ranks_(num_ranks), options_(options) {}

  /// The window and the start of a layer. `old` may be null.
  FoundSteps begin(const std::vector<std::span<const double>>& batches, const Placement* old) const;

  /// Searches the layer. Returns how many trials the searches took.
  std::int64_t search(FoundSteps& found, SearchClock::time_point deadline) const;

  /// Searches all layers on the device, for at most `max_seconds`, with the result of search().
  /// What a layer's steps then are is not known; one for each slot that changed stands for them.
  /// Returns the trials of each layer. Throws CudaError, and ArgumentError, which names `backend`.
  std::vector<std::int64_t> search_on_device(std::span<FoundSteps> found, double max_seconds) const;

  /// The steps of `found` as choose_steps() takes them.
  std::vector<StepChoice> choices(const FoundSteps& found) const;

  /// Takes the first `count` steps, but none of earlier searches. Writes the experts [num_slots of
  /// live ranks], and item `layer` of the result's other figures.
  void finish(const FoundSteps& found, std::size_t count, Index layer, std::span<Index> experts,
              HomesPlacement& result) const;

 private:
  SearchLimits limits_of(const HomesWindow& window) const;
  std::unique_ptr<HomesJudge> make_judge(const HomesWindow& window) const;
  double imbalance(const FoundSteps& found, std::int64_t value) const;
  void keep_slots(const HomesStart& start, std::span<Index> experts) const;

  const HomesShape& shape_;
  const std::vector<Index>& live_;
  Index num_ranks_;
  const HomesOptions& options_;
};

}  // namespace lplb::placement
