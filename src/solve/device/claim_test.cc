// SPDX-License-Identifier: MIT
#include "solve/device/claim.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <vector>

#include "lplb/solver.h"
#include "solve/device/claim_slots.h"
#include "support/instances.h"

// The check of a solver's claims: it finds no fault in claims that are right, and each kind of
// fault when one is made.
namespace lplb::solvers {
namespace {

struct Made {
  ClaimSlots slots;
  std::vector<int> load, physical_load, rank_load;
  std::vector<std::uint32_t> in_set;
  int max_load, bound;
  bool is_optimal = true;

  unsigned faults() const {
    return find_faults(slots.view(), {load.data(), physical_load.data(), rank_load.data(),
                                      in_set.data(), max_load, bound, is_optimal});
  }
};

Made make(const Placement& placement, const std::vector<Load>& load) {
  const Split split = solve(placement, load);
  Made made{ClaimSlots(placement),
            {load.begin(), load.end()},
            {split.physical_load.begin(), split.physical_load.end()},
            {split.rank_load.begin(), split.rank_load.end()},
            std::vector<std::uint32_t>(static_cast<std::size_t>(placement.num_ranks) / 32 + 1),
            static_cast<int>(split.max_load),
            static_cast<int>(split.lower_bound)};
  for (const Index g : split.bottleneck_ranks) made.in_set[g / 32] |= 1u << (g % 32);
  return made;
}

TEST(Claim, HasNoFaultIfItIsRight) {
  for (const char* name : {"cube8x2", "torus8x4x2", "EP64+64"}) {
    const auto workload = testing::make_workload(name, 20);
    for (const auto& load : workload.loads) {
      EXPECT_EQ(make(workload.placement, load).faults(), kNoFault) << name;
    }
  }
}

TEST(Claim, ShowsEachFault) {
  const auto workload = testing::make_workload("cube8x2", 1);
  const Made right = make(workload.placement, workload.loads[0]);
  const auto faults_after = [&](const std::function<void(Made&)>& change) {
    Made made = right;
    change(made);
    return made.faults();
  };
  const int taken = right.slots.view().slot[right.slots.view().slot_begin[0]];
  EXPECT_EQ(faults_after([](Made&) {}), kNoFault);
  // A token disappears, one appears on another rank, and a slot has less than none.
  EXPECT_TRUE(faults_after([&](Made& m) { --m.physical_load[taken]; }) & kLostTokens);
  EXPECT_TRUE(faults_after([&](Made& m) { ++m.load[0]; }) & kLostTokens);
  EXPECT_TRUE(faults_after([&](Made& m) { m.physical_load[taken] = -1; }) & kLostTokens);
  // Loads that are not those of the slots.
  EXPECT_EQ(faults_after([](Made& m) { ++m.rank_load[3]; }), kWrongLoads);
  EXPECT_TRUE(faults_after([](Made& m) { --m.max_load; }) & kWrongLoads);
  // A bound that the set does not prove, too high or too low, and a set of nobody.
  EXPECT_TRUE(faults_after([](Made& m) { ++m.bound; }) & kWrongBound);
  EXPECT_TRUE(faults_after([](Made& m) { --m.bound; }) & kWrongBound);
  EXPECT_TRUE(faults_after([](Made& m) { m.in_set[0] = 0; }) & kWrongBound);
  // A status that says something else.
  EXPECT_EQ(faults_after([](Made& m) { m.is_optimal = false; }), kWrongStatus);
}

// The even split has all tokens, but a rank carries more than any bound.
TEST(Claim, ShowsASplitThatIsNotOptimal) {
  const auto workload = testing::make_workload("cube8x2", 1);
  Made made = make(workload.placement, workload.loads[0]);
  std::vector<Load> even(workload.placement.physical_to_logical.size());
  split_evenly(workload.placement, workload.loads[0], even);
  made.physical_load.assign(even.begin(), even.end());
  made.max_load = 0;
  for (std::size_t g = 0; g < made.rank_load.size(); ++g) {
    const int slots = made.slots.view().slots_per_rank;
    made.rank_load[g] = 0;
    for (int i = 0; i < slots; ++i) made.rank_load[g] += made.physical_load[g * slots + i];
    made.max_load = std::max(made.max_load, made.rank_load[g]);
  }
  made.is_optimal = false;
  EXPECT_EQ(made.faults(), kNotOptimal);
}

}  // namespace
}  // namespace lplb::solvers
