// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <unordered_set>

#include "support/protocol_search.h"

// A model check of the protocol by which ranks read each other's weights and gradients (call.cuh,
// fetch.cuh), for 3 ranks and 3 calls. Each rank reads from the next one, in two parts, because a
// copy takes time. Between two calls rank 0 may change what it has; what the others have stays,
// which keeps the number of states small. The search visits every interleaving, every delay of
// every word, a deadline that passes at any moment, a rank that dies at any moment. The last test
// shows that it finds the faults of protocols that are nearly this one.
namespace lplb {
namespace {

constexpr int kRanks = 3;
constexpr int kCalls = 3;
constexpr std::int8_t kEmpty = -1;

struct Protocol {
  int num_halves = 2;           ///< call n uses the words of half n % num_halves
  bool waits_to_read = true;    ///< a rank reads only after the source's word of the call
  bool waits_for_all = true;    ///< a rank leaves a call only when all have read, or time is over
  bool looks_back = true;       ///< after it has read, a rank looks whether the source had left
  bool tells_in_time = true;    ///< a rank tells that it left before it changes what it has
  bool tells_truth = true;      ///< a rank that lacks its copy tells so
  bool forgets = true;          ///< a slot whose copy was lost counts as empty
  bool raises_versions = true;  ///< a change has a new version
};

enum Stage : std::int8_t { kBetween, kAwaiting, kReading, kSettling };
enum Told : std::int8_t { kNothing, kWell, kLacks };

struct Rank {
  std::int8_t call = 1;
  std::int8_t stage = kBetween;
  std::int8_t changes = 0;                 // parts that it has changed since the last call
  std::int8_t part[2] = {};                // what it has: the number of the change that wrote it
  std::int8_t version = 0;                 // of that
  std::int8_t left = 0;                    // the last call that it has told to have left
  std::int8_t reads = 0;                   // parts that it has read in this call
  std::int8_t brings = 0;                  // the version that it reads
  std::int8_t slot[2] = {kEmpty, kEmpty};  // what is in its dynamic slot
  std::int8_t held = kEmpty;          // which version that is; kEmpty: the slot counts as empty
  std::int8_t seen = 0;               // a bit for each rank that has told it is well
  std::int8_t has[kCalls + 1] = {};   // what it had in each call
  std::int8_t told[kCalls + 1] = {};  // what it told at the end of each call
  std::int8_t had = 0;                // a bit for each call in which it had its copy
  int turn() const { return call; }
};

struct State {
  Rank rank[kRanks];
  bool dead = false;
  std::int8_t calm = 0;
  std::string key() const { return {reinterpret_cast<const char*>(this), sizeof(State)}; }
};
static_assert(sizeof(State) == kRanks * sizeof(Rank) + 2);  // no padding

class Search : public testing::ProtocolSearch<State> {
 public:
  Search(const Protocol& protocol, const testing::World& world, int num_calls = kCalls)
      : ProtocolSearch(world, num_calls), protocol_(protocol) {
    search([this](const State& s, int me) { act(s, me); });
  }
  /// Whether a slot was used that kept its copy from the call before.
  bool kept() const { return kept_; }

 private:
  static int source_of(int me) { return (me + 1) % kRanks; }

  void act(const State& s, int me) {
    switch (s.rank[me].stage) {
      case kBetween:
        change_or_arrive(s, me);
        break;
      case kAwaiting:
        await_source(s, me);
        break;
      case kReading:
        read(s, me);
        break;
      default:
        settle(s, me);
    }
  }

  void change_or_arrive(const State& s, int me) {
    if (me == 0 && s.rank[me].changes < 2) {
      State next = s;
      Rank& r = next.rank[me];
      if (r.changes == 0 && protocol_.raises_versions) ++r.version;
      ++r.part[r.changes++];
      visit(next);
    }
    if (s.rank[me].changes == 1) return;  // it is half changed
    State next = s;
    Rank& r = next.rank[me];
    r.stage = kAwaiting;
    r.changes = 0;
    r.left = static_cast<std::int8_t>(r.call - 1);
    r.has[r.call] = r.part[0];
    visit(next);
  }

  /// Calls seen(call) for each call of which `me` may see a word of a rank, that is, any that was
  /// sent to the half of this call. `told`: only words that tell how it went.
  template <class Seen>
  void look(const State& s, int me, int peer, bool told, Seen seen) const {
    const Rank& p = s.rank[peer];
    const int now = s.rank[me].call;
    for (int call = 1; call <= std::min<int>(p.call, num_turns()); ++call) {
      if ((call - now) % protocol_.num_halves != 0 || call < now) continue;
      const bool has_come = call < p.call || p.stage != kBetween;
      const bool has_told = p.told[call] != kNothing;
      if (call > now ? has_come : (told ? has_told : has_come)) seen(call);
    }
  }

  void await_source(const State& s, int me) {
    const Rank& mine = s.rank[me];
    if (!protocol_.waits_to_read) begin_to_read(s, me);
    look(s, me, source_of(me), false, [&](int call) {
      if (call > mine.call) {
        lose(s, me);
      } else {
        begin_to_read(s, me);
      }
    });
    if (may_time_out(s)) lose(s, me);
  }

  void begin_to_read(const State& s, int me) {
    State next = s;
    Rank& r = next.rank[me];
    r.brings = s.rank[source_of(me)].version;
    r.stage = kReading;
    const bool is_kept = r.held == r.brings;
    kept_ |= is_kept;
    r.reads = is_kept ? 2 : 0;
    if (!is_kept && source_of(me) != 0) {  // the source never changes
      r.slot[0] = r.slot[1] = 0;
      r.reads = 2;
    }
    visit(next);
  }

  void read(const State& s, int me) {
    const Rank& from = s.rank[source_of(me)];
    State next = s;
    Rank& r = next.rank[me];
    if (r.reads < 2) {
      r.slot[r.reads] = from.part[r.reads];
      ++r.reads;
      visit(next);
      return;
    }
    // NOTE: no delay here: who has read a change sees the word that came before it.
    if (protocol_.looks_back && from.left >= r.call) return lose(s, me);
    // This rank now says that its slot holds what the plan says.
    if (r.slot[0] != r.slot[1]) report("half-copied");
    if (r.slot[0] != from.has[r.call]) report("not the weights of this call");
    r.held = r.brings;
    r.told[r.call] = kWell;
    r.had = static_cast<std::int8_t>(r.had | 1 << r.call);
    r.stage = kSettling;
    r.seen = static_cast<std::int8_t>(1 << me);
    visit(next);
  }

  void lose(const State& s, int me) {
    State next = s;
    Rank& r = next.rank[me];
    if (must_succeed(s, r.call)) report("lost call");
    // NOTE: without forgetting, the slot counts as what it was brought for, or what it held.
    r.held = protocol_.forgets ? kEmpty : r.stage == kReading ? r.brings : r.held;
    r.told[r.call] = protocol_.tells_truth ? kLacks : kWell;
    leave(next, me);
  }

  void settle(const State& s, int me) {
    const Rank& mine = s.rank[me];
    const bool is_all = mine.seen == (1 << kRanks) - 1;
    if (is_all || !protocol_.waits_for_all) {
      for (const Rank& r : s.rank) {
        if (is_all && (r.had >> mine.call & 1) == 0) report("complete without a copy");
      }
      State next = s;
      return leave(next, me);
    }
    for (int peer = 0; peer < kRanks; ++peer) {
      if ((mine.seen >> peer & 1) != 0) continue;
      look(s, me, peer, true, [&](int call) {
        State next = s;
        Rank& r = next.rank[me];
        if (call == r.call && s.rank[peer].told[call] == kWell) {
          r.seen = static_cast<std::int8_t>(r.seen | 1 << peer);
          visit(next);
        } else {
          give_up(next, me);
        }
      });
    }
    if (may_time_out(s)) {
      State next = s;
      give_up(next, me);
    }
  }

  /// A rank that has its copy gives the others up.
  void give_up(State& next, int me) {
    if (must_succeed(next, next.rank[me].call)) report("lost call");
    leave(next, me);
  }

  void leave(State& next, int me) {
    Rank& r = next.rank[me];
    if (protocol_.tells_in_time) r.left = r.call;
    ++r.call;
    r.stage = kBetween;
    r.reads = r.brings = r.seen = 0;
    visit(next);
  }

  const Protocol protocol_;
  bool kept_ = false;
};

/// What goes wrong in two calls, which have far fewer states than three.
std::unordered_set<std::string> after_two_calls(const Protocol& protocol,
                                                const testing::World& world) {
  return Search(protocol, world, 2).problems();
}

using ::testing::Contains;
using ::testing::IsEmpty;

// Every call of every rank is complete, and nothing changes while it is read.
TEST(WeightProtocol, WithoutDeadlinesEveryCallIsComplete) {
  const Search search({}, {});
  EXPECT_THAT(search.problems(), IsEmpty());
  EXPECT_TRUE(search.kept());
  EXPECT_GT(search.num_states(), 4000u);
}

// Whatever times out, no slot that counts as held is half copied or stale, and no call is complete
// on any rank if a rank lacks its copy. Calls after the last time-out are complete.
TEST(WeightProtocol, WithDeadlinesSlotsAreWholeAndCallsComeBack) {
  const Search search({}, {.deadlines = true});
  EXPECT_THAT(search.problems(), IsEmpty());
  EXPECT_GT(search.num_states(), 1000000u);
}

TEST(WeightProtocol, ADeadRankHoldsNobodyUp) {
  for (int dead = 0; dead < kRanks; ++dead) {
    EXPECT_THAT(after_two_calls({}, {.deadlines = true, .dead = dead}), IsEmpty());
  }
}

TEST(WeightProtocol, TheSearchFindsWhatIsWrong) {
  const testing::World calm;
  const testing::World late{.deadlines = true};
  EXPECT_THAT(after_two_calls({.num_halves = 1}, calm), Contains("lost call"));
  EXPECT_THAT(after_two_calls({.waits_to_read = false}, calm), Contains("half-copied"));
  EXPECT_THAT(after_two_calls({.waits_for_all = false}, calm), Contains("lost call"));
  EXPECT_THAT(after_two_calls({.waits_for_all = false, .looks_back = false}, calm),
              Contains("not the weights of this call"));
  EXPECT_THAT(after_two_calls({.looks_back = false}, late), Contains("half-copied"));
  EXPECT_THAT(after_two_calls({.tells_in_time = false}, late), Contains("half-copied"));
  EXPECT_THAT(after_two_calls({.tells_truth = false}, late), Contains("complete without a copy"));
  EXPECT_THAT(after_two_calls({.forgets = false}, late), Contains("half-copied"));
  EXPECT_THAT(after_two_calls({.raises_versions = false}, calm),
              Contains("not the weights of this call"));
  EXPECT_THAT(after_two_calls({}, {.dead = 1}), Contains("stuck"));
}

}  // namespace
}  // namespace lplb
