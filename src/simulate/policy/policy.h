// SPDX-License-Identifier: MIT
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lplb/controller.h"
#include "lplb/types.h"

namespace lplb::replay {

/// What a placement policy gets in addition to the load.
struct PlacementShape {
  Index num_ranks = 0;
  Index num_nodes = 1;
  Index num_groups = 1;
  std::vector<Index> layers;  // the model's number of each layer
  Index num_logical = 0;
  Index num_replicas = 0;  // all slots of a layer, for policies that replicate; 0: not known,
                           // because num_ranks does not divide num_logical
  ControllerOptions controller = {};  // with the window and the cost of the replay
  // The dynamic slots of a rank that batches will have, and the domains that copies do not leave.
  // Only homes are placed for them.
  Index dynamic_slots = 0;
  Index num_domains = 1;
};

/// The past of one layer, from which a placement is made.
struct Past {
  std::span<const double> load;  // [num_logical]: the sum over the window
  // The window, the last batch last, each [num_logical].
  std::vector<std::span<const Load>> batches = {};  // NOLINT(readability-redundant-member-init)
  const Placement* in_use = nullptr;                // null: none that depended on loads
};

/// For messages: which numbers of slots in all would do for these experts and ranks.
std::string fitting_slots(Index num_logical, Index num_ranks);

/// Decides which expert each slot of a layer holds. To add a policy, add one file, and one line in
/// policy.cc.
class PlacementPolicy {
 public:
  explicit PlacementPolicy(const PlacementShape& shape) : shape_(shape) {}
  virtual ~PlacementPolicy() = default;
  /// Returns the next placement of `layer`. Several threads may call it at once.
  virtual Placement place(Index layer, const Past& past) const = 0;
  /// The placement of `layer` before there is any past: by default that for uniform load. Throws
  /// ArgumentError if the policy cannot take the shape.
  virtual Placement first(Index layer) const;
  /// Whether place() depends on the load. If not, a rebalance would change nothing.
  virtual bool adapts() const { return true; }
  /// Whether place() is called before each batch but the first, and decides itself if anything
  /// changes. `past` then ends with a batch that it has not seen.
  virtual bool decides() const { return false; }
  /// If so: what the last place() of `layer` decided. Without a decision its reason is empty.
  virtual RebalanceDecision decision(Index) const { return {}; }

 protected:
  const PlacementShape& shape() const { return shape_; }
  /// All experts with the same load: [num_logical].
  std::vector<double> uniform_load() const;
  /// The placement with these slots [num_physical] on the shape's ranks and nodes.
  Placement with_slots(std::span<const Index> physical_to_logical) const;

 private:
  PlacementShape shape_;
};

/// `name` is the policy's name without its split. Throws ArgumentError, which names `policies`, if
/// the placement cannot be made on this shape, and FileError for a bad file.
using PlacementFactory = std::unique_ptr<PlacementPolicy> (*)(const std::string& name,
                                                              const PlacementShape& shape);

/// Experts in order, without replicas. num_ranks must divide num_logical.
std::unique_ptr<PlacementPolicy> make_contiguous(const std::string& name,
                                                 const PlacementShape& shape);
std::unique_ptr<PlacementPolicy> make_eplb(const std::string& name, const PlacementShape& shape);
/// EPLB without two replicas of an expert on a rank.
std::unique_ptr<PlacementPolicy> make_eplb_spread(const std::string& name,
                                                  const PlacementShape& shape);
/// EPLB's placement after keep_ranks(): few experts move.
std::unique_ptr<PlacementPolicy> make_eplb_keep(const std::string& name,
                                                const PlacementShape& shape);
/// Homes and replica slots, by place_homes(), from the placement in use, for the dynamic slots.
/// `name` is "homes" or "moving-homes", which also moves homes. num_ranks must divide num_logical.
std::unique_ptr<PlacementPolicy> make_homes(const std::string& name, const PlacementShape& shape);
/// Throws ArgumentError if homes cannot have this shape.
void check_homes(const std::string& name, const PlacementShape& shape);
/// A RebalanceController for each layer, from homes in order. `name` is "controller+even",
/// "controller+lplb" or "controller+time": it judges by the split.
std::unique_ptr<PlacementPolicy> make_controlled(const std::string& name,
                                                 const PlacementShape& shape);
/// `name` is a name that parse_topology() takes. num_ranks must divide num_logical.
std::unique_ptr<PlacementPolicy> make_topology(const std::string& name,
                                               const PlacementShape& shape);
/// `name` is "file:PATH". The placement file has one layer, which serves all, or those of the trace
/// (io::rows_of_layers()).
std::unique_ptr<PlacementPolicy> make_fixed(const std::string& name, const PlacementShape& shape);

/// How the tokens of an expert go to its replicas.
enum class SplitKind {
  kEven,
  kExact,
  kStale,          ///< in proportion to the exact split of the previous batch
  kTime,           ///< by solver time and SimulateOptions::cost
  kDynamic,        ///< with copies in dynamic slots, by replicate()
  kDynamicByTime,  ///< the same copies, split as with kTime
};

/// The parts of a policy's name: "cube+lplb" is the placement "cube" with the exact split.
struct PolicyName {
  std::string placement;
  SplitKind split = SplitKind::kEven;
  PlacementFactory factory = nullptr;
  Index dynamic_slots = 0;        // of a rank; with kDynamic and kDynamicByTime at least 1
  bool placed_for_slots = false;  // the placement depends on dynamic_slots
};

/// Throws ArgumentError, which names `policies`, if no policy has this name.
PolicyName parse_policy(const std::string& name);

}  // namespace lplb::replay
