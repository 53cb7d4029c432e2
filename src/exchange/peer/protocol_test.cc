// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>

#include "support/protocol_search.h"

// A model check of the exchange's protocol (round.cuh) for 3 ranks and 4 rounds. It visits every
// state that the protocol can reach: every interleaving, every delay of every store, a deadline
// that passes at any moment, a rank that dies at any moment. The last test shows that the same
// search finds the faults of protocols that are nearly this one.
namespace lplb {
namespace {

constexpr int kRanks = 3;
constexpr int kRounds = 4;
constexpr int kPeers = kRanks - 1;
constexpr int kWords = 2;  // words of a line; also blocks of a rank, each of which awaits one word

struct Protocol {
  int num_halves = 2;       ///< halves of a buffer; round n uses half n % num_halves
  bool exact = true;        ///< a word of a later round is not taken as one of this round
  bool whole_words = true;  ///< a word's count and epoch arrive as one
  bool agreed = true;       ///< a round that one block of a rank loses is lost for all of them
};

/// A rank in round `round` has sent all its words of that round. A store that is under way is a
/// word that is not seen yet. A rank that dies while it sends leaves words that are never seen.
struct Rank {
  int round = 1;              ///< kRounds + 1: all its rounds are over
  unsigned got[kWords] = {};  ///< a bit for each peer whose word has come
  bool lost[kWords] = {};     ///< the block has given the round up
  int turn() const { return round; }
  bool is_decided(int w) const { return lost[w] || got[w] == (1u << kPeers) - 1; }
};

struct State {
  Rank rank[kRanks];
  bool dead = false;
  int calm = 0;

  std::uint64_t key() const {
    std::uint64_t bits = static_cast<std::uint64_t>(calm) << 1 | (dead ? 1 : 0);
    for (const Rank& r : rank) {
      bits = bits << 3 | static_cast<std::uint64_t>(r.round);
      for (int w = 0; w < kWords; ++w) bits = bits << 3 | r.got[w] << 1 | (r.lost[w] ? 1 : 0);
    }
    return bits;
  }
};

class Search : public testing::ProtocolSearch<State> {
 public:
  Search(const Protocol& protocol, const testing::World& world)
      : ProtocolSearch(world, kRounds), protocol_(protocol) {
    search([this](const State& state, int me) { act(state, me); });
  }
  /// Whether some rank that was rounds behind was seen to catch up without a deadline.
  bool caught_up() const { return caught_up_; }

 private:
  void act(const State& state, int me) {
    for (int peer = 0; peer < kPeers; ++peer) {
      for (int w = 0; w < kWords; ++w) poll(state, me, peer, w);
    }
    for (int w = 0; w < kWords && may_time_out(state); ++w) {
      State next = state;
      if (!state.rank[me].is_decided(w)) give_up(next, me, w);
    }
  }

  /// A block of rank `me` reads word `w` of a peer's line. Any word that the peer has sent to this
  /// half may be there.
  void poll(const State& state, int me, int peer, int w) {
    const Rank& mine = state.rank[me];
    if (mine.is_decided(w) || (mine.got[w] >> peer & 1) != 0) return;
    const Rank& theirs = state.rank[(me + 1 + peer) % kRanks];
    const int sent = std::min(theirs.round, kRounds);
    for (int epoch = 1; epoch <= sent; ++epoch) {
      if ((epoch - mine.round) % protocol_.num_halves != 0) continue;
      if (epoch > mine.round && protocol_.exact) {
        if (!has_deadlines()) report("overwritten before read");
        State next = state;
        caught_up_ |= state.calm != 0;
        give_up(next, me, w);
      } else if (epoch >= mine.round) {
        take(state, me, peer, w, epoch);
        if (protocol_.whole_words) continue;
        for (int data = epoch - protocol_.num_halves; data >= 0; data -= protocol_.num_halves) {
          take(state, me, peer, w, data);
        }
      }
    }
  }

  /// Takes a count of round `data` as one of this round.
  void take(const State& state, int me, int peer, int w, int data) {
    if (data != state.rank[me].round) report("count of another round");
    State next = state;
    next.rank[me].got[w] |= 1u << peer;
    go_on(next, me);
  }

  /// Block `w` gives the round up. The other blocks go on by themselves.
  void give_up(State& next, int me, int w) {
    next.rank[me].lost[w] = true;
    go_on(next, me);
  }

  /// Starts the next round if this one is over.
  void go_on(State& next, int me) {
    Rank& r = next.rank[me];
    if (r.is_decided(0) && r.is_decided(1)) {
      if (r.lost[0] != r.lost[1] && !protocol_.agreed) report("blocks disagree");
      if ((r.lost[0] || r.lost[1]) && must_succeed(next, r.round)) report("lost round");
      r = Rank{.round = r.round + 1};
    }
    visit(next);
  }

  const Protocol protocol_;
  bool caught_up_ = false;
};

using ::testing::Contains;
using ::testing::IsEmpty;

// No rank overtakes another, and no rank waits for ever: every round of every rank is complete.
TEST(Protocol, WithoutDeadlinesEveryRoundIsComplete) {
  const Search search({}, {});
  EXPECT_THAT(search.problems(), IsEmpty());
  EXPECT_GT(search.num_states(), 1000u);
}

// No count of another round is ever taken. After the last deadline has passed, only rounds that had
// begun are lost: a late rank catches up without waiting.
TEST(Protocol, WithDeadlinesRoundsAreWholeAndComeBack) {
  const Search search({}, {.deadlines = true});
  EXPECT_THAT(search.problems(), IsEmpty());
  EXPECT_TRUE(search.caught_up());
  EXPECT_GT(search.num_states(), 50000u);
}

TEST(Protocol, ADeadRankHoldsNobodyUp) {
  for (int dead = 0; dead < kRanks; ++dead) {
    EXPECT_THAT(Search({}, {.deadlines = true, .dead = dead}).problems(), IsEmpty());
  }
}

TEST(Protocol, TheSearchFindsWhatIsWrong) {
  EXPECT_THAT(Search({.num_halves = 1}, {}).problems(), Contains("overwritten before read"));
  EXPECT_THAT(Search({.exact = false}, {.deadlines = true}).problems(),
              Contains("count of another round"));
  EXPECT_THAT(Search({.whole_words = false}, {}).problems(), Contains("count of another round"));
  EXPECT_THAT(Search({.agreed = false}, {.deadlines = true}).problems(),
              Contains("blocks disagree"));
  // Without a deadline the others wait for a dead rank for ever.
  EXPECT_THAT(Search({}, {.dead = 1}).problems(), Contains("stuck"));
}

}  // namespace
}  // namespace lplb
