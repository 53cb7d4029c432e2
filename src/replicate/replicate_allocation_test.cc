// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include "lplb/replicate.h"
#include "support/allocations.h"
#include "support/instances.h"

namespace lplb {
namespace {

using lplb::testing::num_allocations;

TEST(ReplicateAllocations, NoneAfterTheFirstBatches) {
  for (const std::string& name : lplb::testing::workload_names()) {
    const auto workload = lplb::testing::make_workload(name, 8);
    for (const Index num_domains : {1, 4}) {
      for (const double target : {1.0, 1.05}) {
        Replicator replicator(workload.placement, {.target = target, .num_domains = num_domains});
        Replication out;
        for (const auto& load : workload.loads) replicator.run(load, out);
        const std::int64_t before = num_allocations();
        for (const auto& load : workload.loads) replicator.run(load, out);
        EXPECT_EQ(num_allocations() - before, 0) << name << ", " << num_domains << ", " << target;
      }
    }
  }
}

}  // namespace
}  // namespace lplb
