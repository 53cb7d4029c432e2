// SPDX-License-Identifier: MIT
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lplb/types.h"

namespace lplb::replay {

/// What a placement policy is given beside the load; num_ranks divides num_logical.
struct PlacementShape {
  Index num_ranks = 0;
  Index num_nodes = 1;
  Index num_groups = 1;
  Index num_logical = 0;
  Index redundants = 0;  // slots a rank, for policies that replicate
};

/// Decides where the experts of one layer live. A new one is one file, and one line in policy.cc.
class PlacementPolicy {
 public:
  virtual ~PlacementPolicy() = default;
  /// `load` [num_logical], of the past, or all 1. Returns physical_to_logical. Called from several
  /// threads at once. Throws ArgumentError where the policy cannot take the shape.
  virtual std::vector<Index> place(std::span<const double> load) const = 0;
  /// False: place() does not depend on the load; a rebalance would change nothing.
  virtual bool adapts() const { return true; }
};

using PlacementFactory = std::unique_ptr<PlacementPolicy> (*)(const std::string& name,
                                                              const PlacementShape& shape);

std::unique_ptr<PlacementPolicy> make_contiguous(const std::string& name,
                                                 const PlacementShape& shape);
std::unique_ptr<PlacementPolicy> make_eplb(const std::string& name, const PlacementShape& shape);
/// `name` is parse_topology()'s.
std::unique_ptr<PlacementPolicy> make_topology(const std::string& name,
                                               const PlacementShape& shape);

/// How the tokens of an expert go to its replicas.
enum class SplitKind {
  kEven,
  kExact,
  kStale,  ///< as the exact split of the batch before would have it
};

/// A policy's name taken apart: "cube+lplb" is the placement "cube" with the exact split.
struct PolicyName {
  std::string placement;
  SplitKind split = SplitKind::kEven;
  PlacementFactory factory = nullptr;
};

/// Throws ArgumentError, naming `policies`, for a name that no policy has.
PolicyName parse_policy(const std::string& name);

}  // namespace lplb::replay
