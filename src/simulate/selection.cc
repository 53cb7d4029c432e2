// SPDX-License-Identifier: MIT
#include "simulate/selection.h"

#include <algorithm>

#include "core/check.h"
#include "core/mix.h"

namespace lplb::replay {
namespace {

constexpr std::int64_t kTenth = 10;

}  // namespace

void FrequentValues::add(std::uint64_t value) {
  ++total_;
  if (const auto known = counts_.find(value); known != counts_.end()) {
    ++known->second;
  } else if (counts_.size() < kMaxValues) {
    counts_.emplace(value, 1);
  } else {
    // One of each value is taken away together with the new one. That takes O(kMaxValues), but
    // cannot happen more often than once in kMaxValues calls.
    for (auto count = counts_.begin(); count != counts_.end();) {
      count = --count->second == 0 ? counts_.erase(count) : std::next(count);
    }
  }
}

std::unordered_map<std::uint64_t, std::int64_t> FrequentValues::frequent() const {
  std::unordered_map<std::uint64_t, std::int64_t> found;
  for (const auto& [value, count] : counts_) {
    if (count > total_ / kTenth) found.emplace(value, count);
  }
  return found;
}

Selection::Selection(const SimulateOptions& options, const SyntheticOptions& synthetic)
    : skip_steps_(options.skip_steps),
      reader_(open_trace(options.trace, synthetic)),
      info_(reader_->info()),
      has_routing_(info_.format == "topk.npy") {
  if (info_.num_steps >= 0)
    info_.num_steps = std::max<std::int64_t>(0, info_.num_steps - skip_steps_);
  if (!options.drop_repeats) return;
  check_argument(has_routing_, "drop_repeats",
                 "needs the experts of every token, which {} does not have, expected a "
                 "STEM.topk.npy",
                 info_.name);
  const std::unique_ptr<TraceReader> first = open_trace(options.trace, synthetic);
  for (TraceStep step; read(*first, step);) count(step);
  num_read_ = 0;
  dropped_.emplace();
  for (const auto& [choice, tokens] : choices_.frequent()) dropped_->insert(choice);
}

bool Selection::next(TraceStep& step) {
  if (!read(*reader_, step)) return false;
  if (dropped_) {
    drop(step);
  } else {
    count(step);
  }
  return true;
}

bool Selection::read(TraceReader& reader, TraceStep& step) {
  do {
    if (!reader.next(step)) return false;
  } while (num_read_++ < skip_steps_);
  return true;
}

void Selection::count(const TraceStep& step) {
  if (!has_routing_) return;
  const auto row = static_cast<std::size_t>(info_.num_layers) * info_.num_topk;
  for (std::size_t at = 0; at < step.topk_idx.size(); at += row) {
    choices_.add(choice_of(step.topk_idx.data() + at));
  }
}

/// A hash of a token's experts [num_layers, num_topk], in which their order within a layer does not
/// matter. Two choices have the same hash by chance with probability 2^-64.
std::uint64_t Selection::choice_of(const Index* experts) const {
  std::uint64_t hash = 0;
  for (Index layer = 0; layer < info_.num_layers; ++layer) {
    std::uint64_t sum = hash;
    for (Index k = 0; k < info_.num_topk; ++k) {
      sum += mix(static_cast<std::uint64_t>(*experts++) + 1);
    }
    hash = mix(sum);
  }
  return hash;
}

void Selection::drop(TraceStep& step) const {
  if (!dropped_ || dropped_->empty()) return;
  const auto topk = static_cast<std::size_t>(info_.num_topk);
  const auto experts = static_cast<std::size_t>(info_.num_logical_experts);
  const std::size_t row = static_cast<std::size_t>(info_.num_layers) * topk;
  std::fill(step.load.begin(), step.load.end(), 0);
  std::size_t kept = 0;
  for (std::size_t at = 0; at < step.topk_idx.size(); at += row) {
    const Index* const from = step.topk_idx.data() + at;
    if (dropped_->contains(choice_of(from))) continue;
    for (std::size_t i = 0; i < row; ++i) {
      ++step.load[i / topk * experts + static_cast<std::size_t>(from[i])];
    }
    std::copy_n(from, row, step.topk_idx.data() + kept * row);
    ++kept;
  }
  step.topk_idx.resize(kept * row);
  step.num_tokens = static_cast<std::int64_t>(kept);
}

std::optional<RepeatedTokens> Selection::repeats() const {
  RepeatedTokens repeats;
  for (const auto& [choice, tokens] : choices_.frequent()) {
    ++repeats.num_choices;
    repeats.num_tokens += tokens;
  }
  if (repeats.num_choices == 0) return std::nullopt;
  repeats.share = static_cast<double>(repeats.num_tokens) / static_cast<double>(choices_.total());
  return repeats;
}

}  // namespace lplb::replay
