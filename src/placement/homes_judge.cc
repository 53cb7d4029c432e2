// SPDX-License-Identifier: MIT
#include "placement/homes_judge.h"

#include <algorithm>
#include <limits>
#include <utility>

namespace lplb::placement {
namespace {

constexpr std::size_t kMaxCuts = 64;

}  // namespace

WindowJudge::WindowJudge(const HomesShape& shape, std::vector<std::int32_t> load,
                         std::vector<std::int64_t> weight)
    : shape_(shape),
      num_batches_(static_cast<Index>(weight.size())),
      want_(std::move(load)),
      weight_(std::move(weight)),
      highest_(weight_.size(), 0),
      lower_(weight_.size()) {
  const auto ranks = static_cast<std::size_t>(shape_.num_ranks);
  from_.resize(ranks);
  to_.resize(ranks);
  is_reached_.assign(ranks, 0);
  reached_.reserve(ranks);
  cuts_.reserve(kMaxCuts + 1);
}

std::int64_t WindowJudge::capacity(Index rank, std::int64_t level) const {
  return shape_.speed.empty() ? level : level * shape_.speed[rank] / kUnitSpeed;
}

/// The least level at which these ranks can take `load`.
std::int64_t WindowJudge::least_level(const std::vector<Index>& ranks, std::int64_t load) const {
  if (shape_.speed.empty()) {
    const auto count = static_cast<std::int64_t>(ranks.size());
    return (load + count - 1) / count;
  }
  std::int64_t speed = 0;
  for (const Index g : ranks) speed += shape_.speed[g];
  std::int64_t level = (load * kUnitSpeed + speed - 1) / speed;
  for (;; ++level) {  // capacities are rounded down, so a few steps may be missing
    std::int64_t room = 0;
    for (const Index g : ranks) room += capacity(g, level);
    if (room >= load) return level;
  }
}

bool WindowJudge::is_on(Index expert, Index rank) const {
  const Index first = any_[expert];
  if (first < 0) return false;
  Index slot = first;
  do {
    if (slot / shape_.slots == rank) return true;
    slot = next_[slot];
  } while (slot != first);
  return false;
}

void WindowJudge::put(Index slot, Index expert) {
  expert_[slot] = expert;
  next_[slot] = slot;
  if (expert < 0) return;
  Index& any = any_[expert];
  if (any < 0) {
    any = slot;
    return;
  }
  next_[slot] = next_[any];
  next_[any] = slot;
}

void WindowJudge::lift(Index slot) {
  const Index expert = expert_[slot];
  if (expert < 0) return;
  Index before = slot;
  while (next_[before] != slot) before = next_[before];
  next_[before] = next_[slot];
  any_[expert] = before == slot ? -1 : before;
  next_[slot] = slot;
  expert_[slot] = -1;
}

void WindowJudge::assign(std::span<const Index> experts) {
  const auto slots = static_cast<std::size_t>(shape_.num_slots());
  expert_.assign(slots, -1);
  next_.resize(slots);
  any_.assign(static_cast<std::size_t>(shape_.num_logical), -1);
  for (Index p = 0; p < shape_.num_slots(); ++p) put(p, experts[p]);

  cuts_.clear();
  found_.clear();
  std::vector<Index> all(static_cast<std::size_t>(shape_.num_ranks));
  for (Index g = 0; g < shape_.num_ranks; ++g) all[g] = g;
  found_.push_back(all);
  states_.resize(weight_.size());
  value_ = 0;
  for (Index b = 0; b < num_batches_; ++b) {
    State& state = states_[b];
    state.take.assign(slots, 0);
    state.load.assign(static_cast<std::size_t>(shape_.num_ranks), 0);
    std::int64_t total = 0;
    for (Index e = 0; e < shape_.num_logical; ++e) {
      const std::int32_t tokens = want(b, e);
      total += tokens;
      const Index slot = any_[e];
      state.take[slot] = tokens;
      state.load[slot / shape_.slots] += tokens;
    }
    state.level = least_level(all, total);
    solve(state, std::numeric_limits<std::int64_t>::max());
    value_ += weight_[b] * state.level;
  }
  trial_ = states_;
  for (const auto& ranks : found_) keep_cut(ranks);
  found_.clear();
  find_highest();
}

/// Looks for a shortest path on which `rank` can give tokens to one that has room. Returns the end
/// of the path, or -1 if there is none; `reached_` then lists all ranks that `rank` could give to,
/// and itself.
Index WindowJudge::find_path(Index rank, const State& state) {
  for (const Index g : reached_) is_reached_[g] = 0;
  reached_.assign(1, rank);
  is_reached_[rank] = 1;
  for (std::size_t i = 0; i < reached_.size(); ++i) {
    const Index giver = reached_[i];
    for (Index from = giver * shape_.slots; from < (giver + 1) * shape_.slots; ++from) {
      if (state.take[from] == 0) continue;
      for (Index to = next_[from]; to != from; to = next_[to]) {
        const Index taker = to / shape_.slots;
        if (is_reached_[taker] != 0) continue;
        is_reached_[taker] = 1;
        from_[taker] = from;
        to_[taker] = to;
        reached_.push_back(taker);
        if (state.load[taker] < capacity(taker, state.level)) return taker;
      }
    }
  }
  return -1;
}

/// Gives as many tokens of `rank` to `end` as the path between them carries.
void WindowJudge::push(Index rank, Index end, State& state) const {
  std::int64_t tokens = std::min(state.load[rank] - capacity(rank, state.level),
                                 capacity(end, state.level) - state.load[end]);
  for (Index g = end; g != rank; g = from_[g] / shape_.slots) {
    tokens = std::min<std::int64_t>(tokens, state.take[from_[g]]);
  }
  for (Index g = end; g != rank; g = from_[g] / shape_.slots) {
    state.take[from_[g]] -= static_cast<std::int32_t>(tokens);
    state.take[to_[g]] += static_cast<std::int32_t>(tokens);
  }
  state.load[rank] -= tokens;
  state.load[end] += tokens;
}

/// Raises the level of `state` from a lower bound to the least at which everything fits, and makes
/// the flow fit. Gives up and returns false if the level passes `most`.
bool WindowJudge::solve(State& state, std::int64_t most) {
  for (Index g = 0; g < shape_.num_ranks; ++g) {
    while (state.load[g] > capacity(g, state.level)) {
      const Index end = find_path(g, state);
      if (end >= 0) {
        push(g, end, state);
        continue;
      }
      // What these ranks carry could not be elsewhere, and none of them has room.
      std::int64_t load = 0;
      for (const Index reached : reached_) load += state.load[reached];
      state.level = least_level(reached_, load);
      found_.push_back(reached_);
      if (state.level > most) return false;
    }
  }
  return true;
}

void WindowJudge::keep_cut(const std::vector<Index>& ranks) {
  Cut* cut = nullptr;
  if (cuts_.size() < kMaxCuts) {
    cut = &cuts_.emplace_back();
  } else {
    cut = &*std::min_element(cuts_.begin(), cuts_.end(),
                             [](const Cut& a, const Cut& b) { return a.last_use < b.last_use; });
  }
  cut->member.assign(static_cast<std::size_t>(shape_.num_ranks), 0);
  std::int64_t speed = 0;
  for (const Index g : ranks) {
    cut->member[g] = 1;
    speed += shape_.speed.empty() ? kUnitSpeed : shape_.speed[g];
  }
  cut->inverse_speed = static_cast<double>(kUnitSpeed) / static_cast<double>(speed);
  cut->outside.assign(static_cast<std::size_t>(shape_.num_logical), 0);
  for (Index p = 0; p < shape_.num_slots(); ++p) {
    if (expert_[p] >= 0 && cut->member[p / shape_.slots] == 0) ++cut->outside[expert_[p]];
  }
  cut->inside.assign(weight_.size(), 0);
  cut->level.resize(weight_.size());
  for (Index e = 0; e < shape_.num_logical; ++e) {
    if (cut->outside[e] > 0) continue;
    for (Index b = 0; b < num_batches_; ++b) {
      cut->inside[b] += want(b, e);
    }
  }
  for (Index b = 0; b < num_batches_; ++b) {
    cut->level[b] = static_cast<double>(cut->inside[b]) * cut->inverse_speed;
  }
  cut->last_use = ++clock_;
}

/// Finds the highest cut of each batch, and marks it as used, so that it stays. The first cut, of
/// all ranks, stays too.
void WindowJudge::find_highest() {
  cuts_[0].last_use = ++clock_;
  for (Index b = 0; b < num_batches_; ++b) {
    std::size_t& best = highest_[b];
    best = 0;
    for (std::size_t i = 1; i < cuts_.size(); ++i) {
      if (cuts_[i].level[b] > cuts_[best].level[b]) best = i;
    }
    cuts_[best].last_use = clock_;
  }
}

bool WindowJudge::may_gain(Index expert, Index rank) const {
  for (Index b = 0; b < num_batches_; ++b) {
    const Cut& cut = cuts_[highest_[b]];
    if (cut.outside[expert] == 0 && cut.member[rank] == 0 && want(b, expert) > 0) return true;
  }
  return false;
}

/// Raises `lower_` to what `cut` proves after the edits. Only experts matter whose number of ranks
/// outside becomes 0, or was 0.
void WindowJudge::lower_by_cut(const Cut& cut, std::span<const SlotEdit> edits) {
  struct Change {
    Index expert;
    Index by;
  };
  Change change[2 * kMaxEdits];
  int count = 0;
  const auto add = [&](Index expert, Index by) {
    if (expert < 0) return;
    for (int i = 0; i < count; ++i) {
      if (change[i].expert != expert) continue;
      change[i].by += by;
      return;
    }
    change[count++] = {expert, by};
  };
  for (const SlotEdit& edit : edits) {
    if (cut.member[edit.slot / shape_.slots] != 0) continue;
    add(expert_[edit.slot], -1);
    add(edit.expert, 1);
  }
  int changed = 0;
  for (int i = 0; i < count; ++i) {
    const Index before = cut.outside[change[i].expert];
    const Index after = before + change[i].by;
    if ((before == 0) != (after == 0)) change[changed++] = {change[i].expert, after == 0 ? 1 : -1};
  }
  if (changed == 0) {
    for (Index b = 0; b < num_batches_; ++b) lower_[b] = std::max(lower_[b], cut.level[b]);
    return;
  }
  for (Index b = 0; b < num_batches_; ++b) {
    std::int64_t inside = cut.inside[b];
    for (int i = 0; i < changed; ++i) inside += change[i].by * want(b, change[i].expert);
    lower_[b] = std::max(lower_[b], static_cast<double>(inside) * cut.inverse_speed);
  }
}

std::int64_t WindowJudge::bound(std::span<const SlotEdit> edits) {
  std::fill(lower_.begin(), lower_.end(), 0);
  for (const Cut& cut : cuts_) lower_by_cut(cut, edits);
  std::int64_t sum = 0;
  for (Index b = 0; b < num_batches_; ++b) {
    sum += weight_[b] * static_cast<std::int64_t>(lower_[b]);
  }
  return sum;
}

/// Counts a replica of `expert` on `rank` more (by = 1) or less (by = -1) in all cuts.
void WindowJudge::move_cuts(Index rank, Index expert, Index by) {
  if (expert < 0) return;
  for (Cut& cut : cuts_) {
    if (cut.member[rank] != 0) continue;
    const Index before = cut.outside[expert];
    cut.outside[expert] += by;
    if ((before == 0) == (cut.outside[expert] == 0)) continue;
    for (Index b = 0; b < num_batches_; ++b) {
      cut.inside[b] -= by * want(b, expert);
      cut.level[b] = static_cast<double>(cut.inside[b]) * cut.inverse_speed;
    }
  }
}

/// Takes the tokens of `slot` away; the expert's other slot takes them.
void WindowJudge::drop_tokens(Index slot, State& state) const {
  const std::int32_t tokens = state.take[slot];
  if (tokens == 0) return;
  Index best = next_[slot];
  for (Index p = next_[best]; p != slot; p = next_[p]) {
    if (state.load[p / shape_.slots] < state.load[best / shape_.slots]) best = p;
  }
  carry(tokens, slot, best, state);
}

void WindowJudge::carry(std::int32_t tokens, Index from, Index to, State& state) const {
  state.take[from] -= tokens;
  state.load[from / shape_.slots] -= tokens;
  state.take[to] += tokens;
  state.load[to / shape_.slots] += tokens;
}

bool WindowJudge::try_edits(std::span<const SlotEdit> edits, std::int64_t limit) {
  std::int64_t sum = bound(edits);
  if (sum > limit) return false;
  Index old[kMaxEdits] = {-1, -1};
  bool alone[kMaxEdits] = {};  // the expert has no other slot, so its tokens go where it goes
  for (Index b = 0; b < num_batches_; ++b) {
    State& state = trial_[b];
    std::copy(states_[b].take.begin(), states_[b].take.end(), state.take.begin());
    std::copy(states_[b].load.begin(), states_[b].load.end(), state.load.begin());
  }
  for (std::size_t i = 0; i < edits.size(); ++i) {
    const Index slot = edits[i].slot;
    old[i] = expert_[slot];
    alone[i] = old[i] >= 0 && next_[slot] == slot;
    if (old[i] >= 0 && !alone[i]) {
      for (State& state : trial_) drop_tokens(slot, state);
    }
    lift(slot);
  }
  for (const SlotEdit& edit : edits) put(edit.slot, edit.expert);
  for (std::size_t i = 0; i < edits.size(); ++i) {
    if (!alone[i]) continue;
    for (Index b = 0; b < num_batches_; ++b) {
      carry(want(b, old[i]), edits[i].slot, any_[old[i]], trial_[b]);
    }
  }

  found_.clear();
  bool good = true;
  for (Index b = 0; b < num_batches_ && good; ++b) {
    State& state = trial_[b];
    const auto lower = static_cast<std::int64_t>(lower_[b]);
    state.level = lower;
    const std::int64_t most = lower + (limit - sum) / weight_[b];
    good = solve(state, most);
    sum += weight_[b] * (state.level - lower);
  }
  if (good) {
    std::swap(states_, trial_);
    value_ = sum;
    for (std::size_t i = 0; i < edits.size(); ++i) {
      const Index rank = edits[i].slot / shape_.slots;
      move_cuts(rank, old[i], -1);
      move_cuts(rank, edits[i].expert, 1);
    }
  } else {
    for (const SlotEdit& edit : edits) lift(edit.slot);
    for (std::size_t i = 0; i < edits.size(); ++i) put(edits[i].slot, old[i]);
  }
  for (const auto& ranks : found_) keep_cut(ranks);
  found_.clear();
  find_highest();
  return good;
}

}  // namespace lplb::placement
