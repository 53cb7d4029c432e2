// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

namespace lplb::testing {

/// What may happen to ranks at any moment.
struct World {
  bool deadlines = false;  ///< whether deadlines may pass
  int dead = -1;           ///< the rank that may stop; -1: none
};

/// A model check of a protocol in which every rank takes the same number of turns, one after
/// another; a turn is a round of counts or a call for weights. The search visits every state that
/// the ranks can reach, and collects what went wrong in any of them, as short texts. It adds by
/// itself that the dead rank stops, that the last deadline has passed, and the problem "stuck": a
/// live rank has turns left, and none can take a step.
///
/// A model derives from this class, and calls search() at the end of its constructor. `State` has
///   rank[]  the ranks; each has turn(): 1 at first, num_turns + 1 if all its turns are over
///   dead    whether World::dead has stopped
///   calm    0 while deadlines may pass. Then the latest turn of any rank when the calm began
///   key()   a value that tells states apart, and has a std::hash
template <class State>
class ProtocolSearch {
 public:
  const std::unordered_set<std::string>& problems() const { return problems_; }
  std::size_t num_states() const { return seen_.size(); }

 protected:
  ProtocolSearch(const World& world, int num_turns) : world_(world), num_turns_(num_turns) {}

  /// Calls act(state, rank) for each state and each live rank that has turns left. It must visit()
  /// every state that follows from a step of this rank.
  template <class Act>
  void search(Act act) {
    visit(State{});
    while (!open_.empty()) {
      const State state = open_.back();
      open_.pop_back();
      step(state, act);
    }
  }

  void visit(const State& state) {
    ++visits_;
    if (seen_.insert(state.key()).second) open_.push_back(state);
  }
  void report(const char* problem) { problems_.insert(problem); }

  int num_turns() const { return num_turns_; }
  bool has_deadlines() const { return world_.deadlines; }
  /// Whether a deadline may pass now.
  bool may_time_out(const State& state) const { return world_.deadlines && state.calm == 0; }
  /// Whether nothing excuses a rank that loses this turn: it began after the last deadline.
  bool must_succeed(const State& state, int turn) const {
    return !world_.deadlines || (state.calm != 0 && turn > state.calm);
  }

 private:
  template <class Act>
  void step(const State& state, Act& act) {
    const std::size_t before = visits_;
    bool all_over = true;
    for (int me = 0; me < static_cast<int>(std::size(state.rank)); ++me) {
      if (state.rank[me].turn() > num_turns_ || (state.dead && me == world_.dead)) continue;
      all_over = false;
      act(state, me);
    }
    if (!all_over && visits_ == before) report("stuck");
    if (world_.dead >= 0 && !state.dead && state.calm == 0) {
      State next = state;
      next.dead = true;
      visit(next);
    }
    if (may_time_out(state) && !state.dead) {
      State next = state;
      for (const auto& rank : state.rank) {
        next.calm = std::max(next.calm, static_cast<decltype(next.calm)>(rank.turn()));
      }
      visit(next);
    }
  }

  using Key = decltype(std::declval<const State&>().key());

  const World world_;
  const int num_turns_;
  std::unordered_set<Key> seen_;
  std::vector<State> open_;
  std::unordered_set<std::string> problems_;
  std::size_t visits_ = 0;
};

}  // namespace lplb::testing
