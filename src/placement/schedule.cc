// SPDX-License-Identifier: MIT
#include "lplb/schedule.h"

#include <algorithm>

#include "core/check.h"
#include "core/made.h"

namespace lplb {
namespace {

/// A transfer: move `move` from rank `sender` to rank `receiver`.
struct Transfer {
  Index move;
  Index sender;
  Index receiver;
};

/// Colours transfers so that no sender and no receiver has a colour twice.
class EdgeColouring {
 public:
  EdgeColouring(const std::vector<Transfer>& transfers, Index num_ranks)
      : transfers_(transfers), ranks_(static_cast<std::size_t>(num_ranks)) {
    std::vector<Index> degree(2 * ranks_, 0);
    for (const Transfer& t : transfers_) {
      colours_ = std::max({colours_, ++degree[t.sender], ++degree[ranks_ + t.receiver]});
    }
    at_.assign(2 * ranks_ * static_cast<std::size_t>(colours_), -1);
    colour_.assign(transfers_.size(), -1);
    for (Index i = 0; i < static_cast<Index>(transfers_.size()); ++i) add(i);
  }

  Index num_colours() const { return colours_; }
  const std::vector<Index>& colours() const { return colour_; }

 private:
  std::size_t sender(Index i) const { return static_cast<std::size_t>(transfers_[i].sender); }
  std::size_t receiver(Index i) const {
    return ranks_ + static_cast<std::size_t>(transfers_[i].receiver);
  }
  /// The transfer of this colour at a sender or receiver; -1: none.
  Index& at(std::size_t end, Index colour) { return at_[end * colours_ + colour]; }
  Index free_colour(std::size_t end) {
    Index colour = 0;
    while (at(end, colour) >= 0) ++colour;
    return colour;
  }

  void set(Index i, Index colour) {
    colour_[i] = colour;
    at(sender(i), colour) = i;
    at(receiver(i), colour) = i;
  }

  /// Colours transfer i. `a` is free at its sender, `b` at its receiver. If they differ, the path
  /// of colours a, b, a, ... that begins at the receiver exchanges its colours; it cannot reach the
  /// sender, because it would come there by colour a.
  void add(Index i) {
    const Index a = free_colour(sender(i));
    const Index b = free_colour(receiver(i));
    path_.clear();
    std::size_t end = receiver(i);
    for (Index colour = a; at(end, colour) >= 0; colour = a + b - colour) {
      const Index next = at(end, colour);
      path_.push_back(next);
      end = end == sender(next) ? receiver(next) : sender(next);
    }
    for (const Index j : path_) {
      at(sender(j), colour_[j]) = -1;
      at(receiver(j), colour_[j]) = -1;
    }
    for (const Index j : path_) set(j, a + b - colour_[j]);
    set(i, a);
  }

  const std::vector<Transfer>& transfers_;
  std::size_t ranks_;
  Index colours_ = 0;          // the largest degree
  std::vector<Index> at_;      // [2 * ranks, colours]: senders, then receivers
  std::vector<Index> colour_;  // [transfers]
  std::vector<Index> path_;
};

void append_rounds(MoveKind kind, const std::vector<Transfer>& transfers, Index num_ranks,
                   MoveSchedule& schedule) {
  const EdgeColouring colouring(transfers, num_ranks);
  const std::size_t first = schedule.rounds.size();
  schedule.rounds.resize(first + static_cast<std::size_t>(colouring.num_colours()));
  for (std::size_t i = 0; i < transfers.size(); ++i) {
    MoveRound& round = schedule.rounds[first + colouring.colours()[i]];
    round.kind = kind;
    round.moves.push_back(transfers[i].move);
  }
}

}  // namespace

MoveSchedule schedule(std::span<const Move> moves, const Placement& from, const Placement& to) {
  check_made(from, "from");
  check_made(to, "to");
  MoveSchedule result;
  std::vector<Transfer> within, between;
  for (Index i = 0; i < static_cast<Index>(moves.size()); ++i) {
    const Move& move = moves[i];
    check_argument(move.target >= 0 && move.target < to.num_physical(), "moves",
                   "move {} goes to slot {}, which the new placement does not have", i,
                   move.target);
    if (move.kind == MoveKind::kLost) {
      result.lost.push_back(i);
      continue;
    }
    check_argument(move.source >= 0 && move.source < from.num_physical(), "moves",
                   "move {} comes from slot {}, which the old placement does not have", i,
                   move.source);
    const Transfer transfer{i, from.rank_of(move.source), to.rank_of(move.target)};
    if (transfer.sender == transfer.receiver) {
      result.same_rank.push_back(i);
    } else {
      (move.kind == MoveKind::kOtherNode ? between : within).push_back(transfer);
    }
  }
  const Index num_ranks = std::max(from.num_ranks, to.num_ranks);
  append_rounds(MoveKind::kSameNode, within, num_ranks, result);
  append_rounds(MoveKind::kOtherNode, between, num_ranks, result);
  return result;
}

}  // namespace lplb
