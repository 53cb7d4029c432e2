// SPDX-License-Identifier: MIT
#include "placement/copies_judge.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <numeric>
#include <random>

namespace lplb::placement {
namespace {

struct CopiesInstance {
  HomesShape shape;
  DynamicShape dynamic;
  std::vector<std::int32_t> load;
  std::vector<std::int64_t> weight;
  std::vector<Index> experts;
};

/// Homes in order on the live ranks, other slots at random, never an expert twice on a rank. Some
/// ranks may be dead or slow.
CopiesInstance random_copies_instance(std::mt19937& random) {
  const auto below = [&](std::size_t n) { return static_cast<Index>(random() % n); };
  CopiesInstance in;
  in.dynamic.num_domains = 1 + below(3);
  in.dynamic.num_ranks = in.dynamic.num_domains * (2 + below(2));
  in.dynamic.dynamic_slots = 1 + below(2);
  for (Index g = 0; g < in.dynamic.num_ranks; ++g) {
    if (below(8) > 0 || g == 0) in.dynamic.live.push_back(g);
  }
  in.shape.num_ranks = static_cast<Index>(in.dynamic.live.size());
  const Index homes = 2 + below(2);
  in.shape.num_logical = in.shape.num_ranks * homes;
  in.shape.slots = homes + (in.shape.num_ranks > 1 ? 1 : 0);
  if (below(3) == 0) {
    for (Index g = 0; g < in.shape.num_ranks; ++g) in.shape.speed.push_back(32768 + below(32768));
  }
  for (Index b = 1 + below(3); b > 0; --b) {
    in.weight.push_back(1 + below(1024));
    for (Index e = 0; e < in.shape.num_logical; ++e) {
      const std::int64_t heat = random() % 1000 * (random() % 1000);
      in.load.push_back(static_cast<std::int32_t>(heat * (below(4) == 0 ? 90 : 9)));
    }
  }
  for (Index p = 0; p < in.shape.num_slots(); ++p) {
    const Index g = p / in.shape.slots;
    const Index i = p % in.shape.slots;
    in.experts.push_back(i < homes ? g * homes + i
                                   : (g * homes + homes + below(in.shape.num_logical - homes)) %
                                         in.shape.num_logical);
  }
  return in;
}

/// What replicate() reaches in each batch.
std::vector<std::int64_t> levels_of(const CopiesInstance& in) {
  const auto all = static_cast<std::size_t>(in.dynamic.num_ranks);
  PlacementOptions ranks{.num_nodes = 1,
                         .rank_speed = std::vector<double>(all, 1.0),
                         .rank_alive = std::vector<char>(all, 0)};
  std::vector<Index> slots(all * in.shape.slots, 0);
  for (Index p = 0; p < in.shape.num_slots(); ++p) {
    const Index g = p / in.shape.slots;
    const Index rank = in.dynamic.live[g];
    slots[rank * in.shape.slots + p % in.shape.slots] = in.experts[p];
    ranks.rank_alive[rank] = 1;
    if (!in.shape.speed.empty()) {
      ranks.rank_speed[rank] = static_cast<double>(in.shape.speed[g]) / kUnitSpeed;
    }
  }
  const Placement placement =
      make_placement(in.dynamic.num_ranks, in.shape.num_logical, slots, ranks);
  std::vector<std::int64_t> levels;
  for (std::size_t b = 0; b < in.weight.size(); ++b) {
    const auto first = in.load.begin() + static_cast<std::ptrdiff_t>(b) * in.shape.num_logical;
    const std::vector<Load> load(first, first + in.shape.num_logical);
    levels.push_back(static_cast<std::int64_t>(replicate(placement, load,
                                                         {.dynamic_slots = in.dynamic.dynamic_slots,
                                                          .num_domains = in.dynamic.num_domains})
                                                   .max_load));
  }
  return levels;
}

std::int64_t value_of(const CopiesInstance& in) {
  const std::vector<std::int64_t> levels = levels_of(in);
  const std::int64_t copied =
      std::inner_product(levels.begin(), levels.end(), in.weight.begin(), std::int64_t{0});
  WindowJudge whole(in.shape, in.load, in.weight);
  whole.assign(in.experts);
  return (3 * copied + whole.value()) / 4;
}

TEST(CopiesJudge, ValuesAreThoseOfReplicateAndBoundsAreBelowThem) {
  std::mt19937 random(6);
  int taken = 0, refused = 0, tight = 0, ruled_out = 0;
  for (int round = 0; round < 150; ++round) {
    CopiesInstance in = random_copies_instance(random);
    CopiesJudge judge(in.shape, in.dynamic, in.load, in.weight);
    judge.assign(in.experts);
    // Speeds are rounded differently by the bounds and by replicate().
    const std::int64_t slack = in.shape.speed.empty() ? 0 : judge.value() >> 24;
    ASSERT_EQ(judge.value(), value_of(in));
    for (int step = 0; step < 8 && in.shape.num_ranks > 1; ++step) {
      const auto below = [&](Index n) { return static_cast<Index>(random() % n); };
      const auto slot = [&](Index i) { return below(in.shape.num_ranks) * in.shape.slots + i; };
      const Index last = in.shape.slots - 1;
      std::vector<SlotEdit> edits = {{slot(last), below(in.shape.num_logical)}};
      if (below(3) == 0) {  // an exchange of homes
        const Index a = slot(0), b = slot(1);
        edits = {{a, in.experts[b]}, {b, in.experts[a]}};
      }
      if (std::any_of(edits.begin(), edits.end(), [&](const SlotEdit& edit) {
            return judge.is_on(edit.expert, edit.slot / in.shape.slots);
          })) {
        continue;
      }
      CopiesInstance next = in;
      for (const SlotEdit& edit : edits) next.experts[edit.slot] = edit.expert;
      const std::int64_t before = judge.value();
      const std::int64_t value = value_of(next);
      const std::int64_t bound = judge.bound(edits);
      EXPECT_LE(bound, value + slack);
      tight += bound >= value - 1;
      if (edits.size() == 1 && !judge.may_gain(edits[0].expert, edits[0].slot / in.shape.slots)) {
        EXPECT_GE(value, before - (before >> 13));
        ++ruled_out;
      }
      const std::int64_t limit = below(3) == 0 ? before - 1 : value - below(2);
      const bool took = judge.try_edits(edits, limit);
      ASSERT_TRUE(slack > 0 || took == (value <= limit));
      if (took) in = next;
      ASSERT_EQ(judge.value(), took ? value : before);
      ASSERT_EQ(judge.experts(), in.experts);
      ++(took ? taken : refused);
    }
    const std::vector<std::int64_t> levels = levels_of(in);
    for (std::size_t b = 0; b < levels.size(); ++b) {
      EXPECT_EQ(judge.level(static_cast<Index>(b)), levels[b]);
    }
  }
  EXPECT_GT(taken, 150);
  EXPECT_GT(refused, 150);
  EXPECT_GT(tight, 50);
  EXPECT_GT(ruled_out, 10);
}

}  // namespace
}  // namespace lplb::placement
