// SPDX-License-Identifier: MIT
#include "placement/homes_budget.h"

#include <algorithm>
#include <cmath>

namespace lplb::placement {
namespace {

constexpr double kLongest = 1e9;  // seconds; more is no limit

/// The steps of a layer after which its value is below that of any with as few moves, moves
/// ascending. The first is no step.
struct Best {
  std::size_t count = 0;
  StepChoice step = {};
};

std::vector<Best> best_of(const std::vector<StepChoice>& steps) {
  std::vector<Best> all(1);
  for (std::size_t i = 0; i < steps.size(); ++i) all.push_back({i + 1, steps[i]});
  std::stable_sort(all.begin(), all.end(),
                   [](const Best& a, const Best& b) { return a.step.moves < b.step.moves; });
  std::vector<Best> best;
  for (const Best& one : all) {
    if (!best.empty() && one.step.value >= best.back().step.value) continue;
    if (!best.empty() && one.step.moves == best.back().step.moves) best.pop_back();
    best.push_back(one);
  }
  return best;
}

}  // namespace

std::vector<std::size_t> choose_steps(const std::vector<std::vector<StepChoice>>& layers,
                                      std::int64_t max_moves) {
  std::vector<std::vector<Best>> best;
  std::int64_t most = 0;  // moves that are of any use
  for (const auto& steps : layers) {
    best.push_back(best_of(steps));
    most += best.back().back().step.moves;
  }
  const auto width = static_cast<std::size_t>(std::min(max_moves, most)) + 1;
  // The least sum over the layers so far, with at most so many moves; and what it takes of a layer.
  std::vector<std::int64_t> sum(width, 0);
  std::vector<std::int64_t> next(width);
  std::vector<std::vector<std::uint32_t>> taken(layers.size());
  for (std::size_t i = 0; i < layers.size(); ++i) {
    taken[i].assign(width, 0);
    for (std::size_t moves = 0; moves < width; ++moves) {
      next[moves] = sum[moves] + best[i][0].step.value;
      for (std::uint32_t k = 1; k < best[i].size(); ++k) {
        const auto price = static_cast<std::size_t>(best[i][k].step.moves);
        if (price > moves) break;
        const std::int64_t with = sum[moves - price] + best[i][k].step.value;
        if (with >= next[moves]) continue;
        next[moves] = with;
        taken[i][moves] = k;
      }
    }
    std::swap(sum, next);
  }
  std::vector<std::size_t> count(layers.size());
  std::size_t moves = width - 1;
  for (std::size_t i = layers.size(); i-- > 0;) {
    const Best& one = best[i][taken[i][moves]];
    count[i] = one.count;
    moves -= static_cast<std::size_t>(one.step.moves);
  }
  return count;
}

TimeShares::TimeShares(double seconds, std::size_t num_layers, int num_threads)
    : end_(SearchClock::time_point::max()),
      left_(static_cast<std::int64_t>(num_layers)),
      threads_(num_threads) {
  if (seconds >= kLongest) return;
  end_ = SearchClock::now() +
         std::chrono::duration_cast<SearchClock::duration>(std::chrono::duration<double>(seconds));
}

SearchClock::time_point TimeShares::next() {
  if (end_ == SearchClock::time_point::max()) return end_;
  const std::int64_t left = left_.fetch_sub(1);
  const SearchClock::time_point now = SearchClock::now();
  if (now >= end_) return end_;
  return now + (end_ - now) * std::min(left, threads_) / left;
}

}  // namespace lplb::placement
