// SPDX-License-Identifier: MIT
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lplb/types.h"

namespace lplb::replay {

/// What a placement policy gets in addition to the load. num_ranks divides num_logical.
struct PlacementShape {
  Index num_ranks = 0;
  Index num_nodes = 1;
  Index num_groups = 1;
  Index num_logical = 0;
  Index redundants = 0;  // redundant slots of a rank, for policies that replicate
};

/// Decides which expert each slot of one layer holds. To add a policy, add one file, and one line
/// in policy.cc.
class PlacementPolicy {
 public:
  virtual ~PlacementPolicy() = default;
  /// Returns physical_to_logical. `load` [num_logical] is the load of past batches, or all 1.
  /// Several threads may call it at once. Throws ArgumentError if the policy cannot take the shape.
  virtual std::vector<Index> place(std::span<const double> load) const = 0;
  /// Whether place() depends on the load. If not, a rebalance would change nothing.
  virtual bool adapts() const { return true; }
};

using PlacementFactory = std::unique_ptr<PlacementPolicy> (*)(const std::string& name,
                                                              const PlacementShape& shape);

std::unique_ptr<PlacementPolicy> make_contiguous(const std::string& name,
                                                 const PlacementShape& shape);
std::unique_ptr<PlacementPolicy> make_eplb(const std::string& name, const PlacementShape& shape);
/// `name` is a name that parse_topology() takes.
std::unique_ptr<PlacementPolicy> make_topology(const std::string& name,
                                               const PlacementShape& shape);

/// How the tokens of an expert go to its replicas.
enum class SplitKind {
  kEven,
  kExact,
  kStale,  ///< in proportion to the exact split of the previous batch
};

/// The parts of a policy's name: "cube+lplb" is the placement "cube" with the exact split.
struct PolicyName {
  std::string placement;
  SplitKind split = SplitKind::kEven;
  PlacementFactory factory = nullptr;
};

/// Throws ArgumentError, which names `policies`, if no policy has this name.
PolicyName parse_policy(const std::string& name);

}  // namespace lplb::replay
