// SPDX-License-Identifier: MIT
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "lplb/simulate.h"
#include "simulate/batcher.h"
#include "simulate/dynamic_split.h"
#include "simulate/judge.h"
#include "simulate/policy/policy.h"

namespace lplb::replay {

/// How a split was solved.
struct SolveOutcome {
  bool optimal = false;
  Backend backend = Backend::kCpu;  // where
  double us = 0;
};

/// What a placement gave for one (batch, layer). It does not depend on how tokens are split over
/// it.
struct PlacementOutcome {
  Index moved = -1;            // experts fetched from other ranks; -1: no rebalance
  Index rounds = 0;            // in which they move; only counted with SimulateOptions::controller
  RebalanceDecision decision;  // of a policy that decides
  SolveOutcome exact;          // by tokens
  SolveOutcome time;           // by cost, if there is one
};

/// The outcomes of one block of batches; item i of a (policy, layer) is the block's i-th batch.
struct BlockOutcome {
  std::int64_t first_batch = 0;
  std::size_t size = 0;                     // how many batches
  std::vector<char> has_tokens;             // [size, num_layers]: whether the pair has any
  std::vector<PlacementOutcome> placement;  // [num_placements, num_layers, size]
  std::vector<PolicyOutcome> policy;        // [num_policies, num_layers, size]
  std::vector<double> heat;                 // [num_policies, num_layers, size, num_ranks]
};

/// How many of at most `most` batches from `batch` on have the same placement, if each multiple of
/// `rebalance_every` has a new one.
std::size_t run_length(std::int64_t batch, std::int64_t rebalance_every, std::size_t most);

/// Places and splits batches, in order. Policies with the same placement share it. They also share
/// one exact solve for each (batch, layer): it is the split of the "+lplb" policy, and the bound
/// that the other splits are compared with. With a cost model they share one solve by cost in the
/// same way: it is the split of the "+time" policy, and the bound of the others' costs. On kCuda
/// the batches of a layer are solved in runs: one launch solves all batches of a block that have
/// the same placement. Each thread has a stream of its own.
class Player {
 public:
  Player(const SimulateOptions& options, const TraceInfo& trace);

  /// Plays the last `count` batches. The batches before these are the past, which must hold at
  /// least the window. Layers and placements run in parallel, and outcomes do not depend on that.
  void play(const std::deque<Batch>& batches, std::size_t count, BlockOutcome& out);

  std::size_t placement_of(std::size_t policy) const { return members_[policy].placement; }
  SplitKind split_of(std::size_t policy) const { return members_[policy].split; }
  /// How many solves each (batch, layer) of a placement takes, those of copies not counted.
  int solves_of(std::size_t placement) const {
    const Group& group = groups_[placement];
    return (group.needs_exact ? 1 : 0) + (group.needs_time ? 1 : 0);
  }

  /// The placements [num_layers] that a rebalance would make now. `past` ends with the last batch
  /// and holds at least the window.
  std::vector<Placement> next_placement(std::size_t policy, const std::deque<Batch>& past);

 private:
  struct Layer {
    explicit Layer(Placement p) : placement(std::move(p)), problem(placement) {}
    Placement placement;
    SplitProblem problem;
    std::vector<Load> shares;  // for kStale: the previous batch's exact split over this placement
    std::vector<std::unique_ptr<DynamicSplit>> dynamic;  // of Group::members; null: none
  };
  struct Group {  // policies with the same placement
    std::string name;
    Index dynamic_slots = 0;  // for which it is placed
    std::unique_ptr<PlacementPolicy> policy;
    std::vector<Layer> layers;
    std::vector<std::size_t> members;
    /// The cost of each rank [num_ranks], or [1] for all; empty without a model. All placements of
    /// a group have the same speeds.
    std::vector<CostCurve> curves;
    bool is_stale = false;     // whether some member splits by kStale
    bool needs_exact = false;  // whether the figures of some member need the exact split
    bool needs_time = false;   // or the split by cost
  };
  struct Member {
    std::size_t placement;
    SplitKind split;
    std::size_t in_group;  // which of Group::members
  };
  struct Run {                          // the solved splits of successive batches of one placement
    std::vector<Load> split;            // [run, num_physical]
    std::vector<SplitSummary> summary;  // [run]
    double us = 0;                      // of one batch

    std::span<const Load> of(std::size_t i) const {
      const std::size_t slots = split.size() / summary.size();
      return std::span(split).subspan(i * slots, slots);
    }
    SolveOutcome outcome(std::size_t i) const {
      return {summary[i].status == SolveStatus::kOptimal, summary[i].backend, us};
    }
  };
  struct Scratch {  // memory of one thread
    Workspace workspace;
    std::vector<Load> run_load;     // [run, num_logical]
    Run exact, time;                // empty if the group needs none
    std::vector<Load> other_split;  // [num_physical]: a split that is not solved
    std::vector<Load> taken;        // [num_logical]: zeros
    std::vector<Load> rank_load;    // [num_ranks]
    std::vector<double> past_load;
    std::vector<Index> held_by;
  };

  void add_policy(std::size_t index, const std::string& name);
  void play_layer(const std::deque<Batch>& batches, std::size_t group, std::size_t layer,
                  BlockOutcome& out, Scratch& scratch);
  bool rebalances_at(const Group& group, std::int64_t batch) const;
  std::size_t run_from(const Group& group, std::int64_t batch, std::size_t most) const;
  std::optional<Past> past_of(const std::deque<Batch>& batches, std::size_t end, const Group& group,
                              std::size_t layer, std::vector<double>& sum) const;
  void rebalance(const std::deque<Batch>& batches, std::size_t past, Group& group,
                 std::size_t layer, Scratch& scratch, PlacementOutcome& out) const;
  void solve_run(const std::deque<Batch>& batches, std::size_t first, std::size_t count,
                 const Group& group, std::size_t layer, Scratch& scratch) const;
  static void solve_all(const SplitProblem& problem, const std::vector<Load>& loads,
                        Workspace& workspace, const SolveOptions& options, Run& run);
  void warm_up();
  void take_shares(const Batch& batch, Layer& state, std::size_t layer, Scratch& scratch) const;
  std::span<const Load> split(const Batch& batch, const Layer& state, std::size_t layer,
                              SplitKind kind, std::size_t i, Scratch& scratch) const;
  PolicyOutcome judge_split(const Batch& batch, const Group& group, std::size_t layer,
                            SplitKind kind, std::size_t i, std::span<double> heat,
                            Scratch& scratch) const;
  PolicyOutcome judge_copies(const Batch& batch, const Group& group, std::size_t layer,
                             DynamicSplit& dynamic, std::size_t i, std::span<double> heat,
                             Scratch& scratch) const;

  const SimulateOptions& options_;
  SolveOptions exact_options_, time_options_;
  PlacementShape shape_;
  std::size_t num_layers_;
  std::vector<Group> groups_;
  std::vector<Member> members_;  // [num_policies]
  std::vector<Scratch> scratch_;
  std::int64_t next_batch_ = 0;
};

}  // namespace lplb::replay
