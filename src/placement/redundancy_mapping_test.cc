// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lplb/placement.h"
#include "support/expect_refused.h"

namespace lplb {
namespace {

using ::testing::ElementsAre;

TEST(RedundancyMapping, NamesTheOriginalOfEachRedundant) {
  // Each rank has 2 experts and 1 redundant. Experts are not in the order of their ids.
  const std::vector<Index> map = {5, 2, 0, 0, 3, 5, 1, 4, 3};
  EXPECT_THAT(redundancy_mapping(make_placement(3, 6, map)), ElementsAre(2, 0, 3));
}

TEST(RedundancyMapping, NumbersWithinTheNode) {
  const std::vector<Index> map = {0, 1, 1, 0, 2, 3, 3, 2};
  PlacementOptions options;
  options.num_nodes = 2;
  EXPECT_THAT(redundancy_mapping(make_placement(4, 4, map, options)), ElementsAre(1, 0, 1, 0));
}

TEST(RedundancyMapping, TakesTopologies) {
  std::vector<double> load(64);
  for (std::size_t e = 0; e < load.size(); ++e) load[e] = static_cast<double>(e % 7);
  const ExpertMaps maps = place_on_topology(load, 1, 64, parse_topology("cube"), 2, 8);
  const Placement p = make_placement(8, 64, maps.layer(0));
  const std::vector<std::int32_t> mapping = redundancy_mapping(p);
  ASSERT_EQ(mapping.size(), 16u);
  for (Index i = 0; i < 16; ++i) {
    const Index rank = i / 2;
    const Index owner = mapping[i] / 8;
    EXPECT_NE(owner, rank);
    EXPECT_EQ(p.physical_to_logical[owner * 10 + mapping[i] % 8],
              p.physical_to_logical[rank * 10 + 8 + i % 2]);
  }
}

TEST(RedundancyMapping, RefusesWhatTheFormatCannotSay) {
  const auto refused = [](const Placement& p, const char* part) {
    testing::expect_refused([&] { (void)redundancy_mapping(p); }, part);
  };
  refused(make_placement(2, 3, std::vector<Index>{0, 1, 2, 1}),
          "has 3 logical experts on 2 ranks, expected as many on each");
  refused(make_placement(2, 2, std::vector<Index>{0, 1, 0, 1}),
          "has expert 0 in slots 0 and 2, expected one original");
  refused(make_placement(2, 2, std::vector<Index>{0, 0, 1, 0}), "has expert 0 twice on rank 0");
  PlacementOptions options;
  options.num_nodes = 2;
  refused(make_placement(2, 2, std::vector<Index>{0, 1, 1, 0}, options),
          "has a replica of expert 1 on rank 0, expected it on the node of its original, rank 1");
}

}  // namespace
}  // namespace lplb
