// SPDX-License-Identifier: MIT
#include "placement/homes_judge.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace lplb::placement {
namespace {

struct HomesInstance {
  HomesShape shape;
  std::vector<std::int32_t> load;
  std::vector<std::int64_t> weight;
  std::vector<Index> experts;
};

/// The least level of a batch from first principles: the largest over all sets of ranks of what the
/// experts that are nowhere else need there.
std::int64_t least_level(const HomesInstance& in, std::size_t batch) {
  std::int64_t most = 0;
  for (unsigned set = 1; set < 1u << in.shape.num_ranks; ++set) {
    std::int64_t load = 0;
    for (Index e = 0; e < in.shape.num_logical; ++e) {
      bool inside = true;
      for (Index p = 0; p < in.shape.num_slots(); ++p) {
        if (in.experts[p] == e && (set >> (p / in.shape.slots) & 1) == 0) inside = false;
      }
      if (inside) load += in.load[batch * in.shape.num_logical + e];
    }
    const auto fits = [&](std::int64_t level) {
      std::int64_t room = 0;
      for (Index g = 0; g < in.shape.num_ranks; ++g) {
        if ((set >> g & 1) == 0) continue;
        room += in.shape.speed.empty() ? level : level * in.shape.speed[g] / kUnitSpeed;
      }
      return room >= load;
    };
    std::int64_t low = -1, high = std::int64_t{1} << 42;
    while (high - low > 1) (fits((low + high) / 2) ? high : low) = (low + high) / 2;
    most = std::max(most, high);
  }
  return most;
}

std::int64_t value_of(const HomesInstance& in) {
  std::int64_t sum = 0;
  for (std::size_t b = 0; b < in.weight.size(); ++b) sum += in.weight[b] * least_level(in, b);
  return sum;
}

/// Homes in order, other slots at random, perhaps empty, never an expert twice on a rank.
HomesInstance random_homes_instance(std::mt19937& random) {
  const auto below = [&](std::size_t n) { return static_cast<Index>(random() % n); };
  HomesInstance in;
  in.shape.num_ranks = 2 + below(4);
  const Index homes = 1 + below(3);
  in.shape.num_logical = in.shape.num_ranks * homes;
  in.shape.slots = homes + 1 + below(2);
  if (below(2) == 0) {
    for (Index g = 0; g < in.shape.num_ranks; ++g) in.shape.speed.push_back(1000 + below(64000));
  }
  const Index batches = 1 + below(3);
  for (Index b = 0; b < batches; ++b) {
    in.weight.push_back(1 + below(1024));
    const std::int64_t most = below(2) == 0 ? 8 : kBatchLoad / in.shape.num_logical;
    for (Index e = 0; e < in.shape.num_logical; ++e) {
      in.load.push_back(below(4) == 0 ? 0 : static_cast<std::int32_t>(random() % most));
    }
  }
  in.experts.assign(static_cast<std::size_t>(in.shape.num_slots()), -1);
  for (Index p = 0; p < in.shape.num_slots(); ++p) {
    const Index g = p / in.shape.slots;
    const Index i = p % in.shape.slots;
    const auto first = in.experts.begin() + g * in.shape.slots;
    const Index e = i < homes ? g * homes + i : below(in.shape.num_logical);
    if (i < homes || (std::find(first, first + i, e) == first + i && below(5) > 0)) {
      in.experts[p] = e;
    }
  }
  return in;
}

TEST(HomesJudge, ValuesAndBoundsAreThoseOfAllSetsOfRanks) {
  std::mt19937 random(5);
  int taken = 0, refused = 0, tight = 0, ruled_out = 0;
  for (int round = 0; round < 400; ++round) {
    HomesInstance in = random_homes_instance(random);
    WindowJudge judge(in.shape, in.load, in.weight);
    judge.assign(in.experts);
    ASSERT_EQ(judge.value(), value_of(in));
    for (int step = 0; step < 12; ++step) {
      const auto below = [&](Index n) { return static_cast<Index>(random() % n); };
      const Index homes = in.shape.num_logical / in.shape.num_ranks;
      const auto slot = [&](Index first, Index last) {
        return below(in.shape.num_ranks) * in.shape.slots + first + below(last - first);
      };
      std::vector<SlotEdit> edits = {{slot(homes, in.shape.slots), below(in.shape.num_logical)}};
      if (below(2) == 0) {  // an exchange, perhaps of homes
        const Index first = below(2) == 0 ? 0 : homes;
        const Index last = first == 0 ? homes : in.shape.slots;
        edits[0].slot = slot(first, last);
        const Index other = slot(first, last);
        if (in.experts[edits[0].slot] < 0 || in.experts[other] < 0) continue;
        edits = {{edits[0].slot, in.experts[other]}, {other, in.experts[edits[0].slot]}};
      }
      if (std::any_of(edits.begin(), edits.end(), [&](const SlotEdit& edit) {
            return judge.is_on(edit.expert, edit.slot / in.shape.slots);
          })) {
        continue;
      }
      HomesInstance next = in;
      for (const SlotEdit& edit : edits) next.experts[edit.slot] = edit.expert;
      const std::int64_t before = judge.value();
      const std::int64_t value = value_of(next);
      const std::int64_t bound = judge.bound(edits);
      EXPECT_LE(bound, value);
      tight += bound == value;
      if (edits.size() == 1 && !judge.may_gain(edits[0].expert, edits[0].slot / in.shape.slots)) {
        EXPECT_GE(value, in.shape.speed.empty() ? before : before - 3 * 1024 * 8);  // rounding
        ++ruled_out;
      }
      const std::int64_t limit = below(3) == 0 ? before - 1 : value - below(2);
      const bool took = judge.try_edits(edits, limit);
      ASSERT_EQ(took, value <= limit);
      if (took) in = next;
      ASSERT_EQ(judge.value(), took ? value : before);
      ASSERT_EQ(judge.experts(), in.experts);
      ++(took ? taken : refused);
    }
    for (std::size_t b = 0; b < in.weight.size(); ++b) {
      EXPECT_EQ(judge.level(static_cast<Index>(b)), least_level(in, b));
    }
  }
  EXPECT_GT(taken, 500);
  EXPECT_GT(refused, 500);
  EXPECT_GT(tight, 200);
  EXPECT_GT(ruled_out, 100);
}

/// More cuts than the judge keeps.
TEST(HomesJudge, ForgetsCutsButNotTheValue) {
  std::mt19937 random(9);
  const HomesShape shape{.num_ranks = 12, .slots = 3, .num_logical = 24, .speed = {}};
  std::vector<std::int32_t> load;
  for (int i = 0; i < 4 * 24; ++i) {
    load.push_back(static_cast<std::int32_t>(random() % 1000 * (random() % 1000)));
  }
  std::vector<Index> experts;
  for (Index p = 0; p < 36; ++p) experts.push_back(p % 3 < 2 ? p / 3 * 2 + p % 3 : (p + 5) % 24);
  WindowJudge judge(shape, load, {1, 1, 1, 1});
  judge.assign(experts);
  for (int step = 0; step < 3000; ++step) {
    const SlotEdit edit{static_cast<Index>(random() % 12) * 3 + 2,
                        static_cast<Index>(random() % 24)};
    if (judge.is_on(edit.expert, edit.slot / 3)) continue;
    judge.try_edits({&edit, 1}, judge.value() + static_cast<std::int64_t>(random() % 40000));
  }
  WindowJudge other(shape, load, {1, 1, 1, 1});
  other.assign(judge.experts());
  EXPECT_EQ(judge.value(), other.value());
}

}  // namespace
}  // namespace lplb::placement
