// SPDX-License-Identifier: MIT
#include "placement/homes_search.h"

#include <algorithm>
#include <tuple>

namespace lplb::placement {

SearchSlots::SearchSlots(const HomesShape& shape, const HomesStart& start, bool move_homes) {
  for (Index p = 0; p < shape.num_slots(); ++p) {
    if (start.fixed[p] == kFree) free.push_back(p);
    if (start.fixed[p] == kHome && move_homes) homes.push_back(p);
    moves_of_start += start.is_new(start.experts[p], p / shape.slots, shape.num_logical);
  }
}

HomesSearch::HomesSearch(const HomesShape& shape, const HomesStart& start,
                         const SearchLimits& limits, HomesJudge& judge)
    : shape_(shape),
      start_(start),
      limits_(limits),
      judge_(judge),
      slots_(shape, start, limits.move_homes),
      num_moves_(slots_.moves_of_start) {}

bool HomesSearch::is_used_up() const {
  using Clock = std::chrono::steady_clock;
  return trials_ >= limits_.max_trials ||
         (limits_.deadline != Clock::time_point::max() && Clock::now() >= limits_.deadline);
}

std::int64_t HomesSearch::run() {
  if (judge_.num_batches() == 0) return 0;
  while (!is_used_up() && (try_replacements() || try_exchanges(slots_.free, false) ||
                           try_exchanges(slots_.homes, true))) {
  }
  return trials_;
}

/// Whether every expert of the edits is still where the candidate takes it from, and not yet where
/// it goes.
bool HomesSearch::is_allowed(const Candidate& c) const {
  for (int i = 0; i < c.count; ++i) {
    if (judge_.is_on(c.edit[i].expert, c.edit[i].slot / shape_.slots)) return false;
  }
  return c.count == 1 || (judge_.experts()[c.edit[0].slot] == c.edit[1].expert &&
                          judge_.experts()[c.edit[1].slot] == c.edit[0].expert);
}

/// By how much the edits raise the number of moves.
Index HomesSearch::more_moves(const Candidate& c) const {
  Index more = 0;
  for (int i = 0; i < c.count; ++i) {
    const auto [slot, expert] = c.edit[i];
    const Index rank = slot / shape_.slots;
    more += start_.is_new(expert, rank, shape_.num_logical) ? 1 : 0;
    more -= start_.is_new(judge_.experts()[slot], rank, shape_.num_logical) ? 1 : 0;
  }
  return more;
}

std::int64_t HomesSearch::needed(const Candidate& c, Index moves) const {
  const std::int64_t gain = c.of_homes ? limits_.home_gain : limits_.move_gain;
  return limits_.least_gain + std::max<std::int64_t>(moves, 0) * gain;
}

/// Lists a candidate if it is allowed and its bound promises what it needs.
void HomesSearch::consider(Candidate c) {
  if (!is_allowed(c)) return;
  const Index moves = more_moves(c);
  if (moves > 0 && num_moves_ + moves > limits_.max_moves) return;
  const std::span edits(c.edit, static_cast<std::size_t>(c.count));
  c.bound = judge_.bound(edits) + needed(c, moves);
  if (c.bound <= judge_.value()) candidates_.push_back(c);
}

/// Tries the listed candidates. Returns whether one was taken.
bool HomesSearch::try_candidates() {
  std::sort(candidates_.begin(), candidates_.end(), [](const Candidate& a, const Candidate& b) {
    return std::tie(a.bound, a.edit[0].slot, a.edit[0].expert, a.edit[1].slot) <
           std::tie(b.bound, b.edit[0].slot, b.edit[0].expert, b.edit[1].slot);
  });
  bool any = false;
  for (const Candidate& c : candidates_) {
    if (is_used_up()) break;
    if (!is_allowed(c)) continue;
    const Index moves = more_moves(c);
    if (moves > 0 && num_moves_ + moves > limits_.max_moves) continue;
    const std::span edits(c.edit, static_cast<std::size_t>(c.count));
    const std::int64_t limit = judge_.value() - needed(c, moves);
    if (judge_.bound(edits) > limit) continue;
    ++trials_;
    if (!judge_.try_edits(edits, limit)) continue;
    num_moves_ += moves;
    SearchStep& step = steps_.emplace_back();
    std::copy(edits.begin(), edits.end(), step.edit);
    step.count = c.count;
    step.value = judge_.value();
    step.moves = num_moves_;
    any = true;
  }
  return any;
}

bool HomesSearch::try_replacements() {
  candidates_.clear();
  for (const Index slot : slots_.free) {
    if (is_used_up()) return false;  // NOTE: no candidate is tried before all are known
    for (Index e = 0; e < shape_.num_logical; ++e) {
      if (!judge_.may_gain(e, slot / shape_.slots)) continue;
      consider({.bound = 0, .edit = {{slot, e}, {-1, -1}}, .count = 1, .of_homes = false});
    }
  }
  return try_candidates();
}

bool HomesSearch::try_exchanges(const std::vector<Index>& slots, bool of_homes) {
  candidates_.clear();
  for (auto p = slots.begin(); p != slots.end(); ++p) {
    if (is_used_up()) return false;
    for (auto q = p + 1; q != slots.end(); ++q) {
      const Index a = judge_.experts()[*p];
      const Index b = judge_.experts()[*q];
      if (a == b) continue;
      consider({.bound = 0, .edit = {{*p, b}, {*q, a}}, .count = 2, .of_homes = of_homes});
    }
  }
  return try_candidates();
}

}  // namespace lplb::placement
