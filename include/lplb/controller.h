// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "lplb/cost.h"
#include "lplb/export.h"
#include "lplb/placement.h"
#include "lplb/types.h"

namespace lplb {

/// What a controller decides for one layer.
enum class Rebalance {
  kKeep,      ///< the placement stays
  kReplicas,  ///< homes stay, replica slots get other experts
  kAll,       ///< homes may move, too; with an even split: EPLB
};

/// "keep", "replicas" and "all".
LPLB_API const char* rebalance_name(Rebalance kind);

/// A load is counted in tokens, or with `cost` in the model's unit: this is "the unit" below.
struct ControllerOptions {
  Index window = 8;    ///< 1 to kMaxHistoryWindow: the batches of each phase that are looked at
  Index interval = 1;  ///< >= 1: batches between two decisions
  /// >= 0: what a round of moves costs (schedule()), in the unit: what the slowest rank could have
  /// computed meanwhile. 1750 tokens are bf16 experts over 400 GB/s on an H200, whatever their
  /// size, if nothing hides the moves.
  double round_cost = 1750;
  /// > 0: for how many batches a placement is expected to be of use, as a first guess. The
  /// controller learns from how long its placements stay.
  double life = 16;
  /// >= 0: a rebalance must lower the load of the slowest rank by this part of it.
  double min_gain = 0.01;
  /// The batches are split evenly, and not exactly. Excludes `cost`.
  bool even_split = false;
  /// Batches are split by this cost, and judged in its unit.
  std::optional<CostModel> cost = {};  // NOLINT(readability-redundant-member-init)
  Index num_phases = 1;        ///< 1 to 8: kinds of batches that are not mixed: prefill and decode
  Load min_tokens = 1;         ///< >= 1: batches with fewer are ignored
  bool may_move_homes = true;  ///< whether kAll is considered
  std::int64_t max_trials = 2000;  ///< as in HomesOptions, for each of the two searches
  std::int64_t max_moves = -1;     ///< as in HomesOptions
};

/// A decision, and the figures that led to it.
struct RebalanceDecision {
  Rebalance kind = Rebalance::kKeep;
  const char* reason = "";  ///< a few words that complete "because"
  double load = 0;          ///< what the slowest rank has in a batch of the window now: the mean
  double gain = 0;          ///< by how much the best change found would lower that in the window
  double expected = 0;      ///< the same in batches to come, by what earlier gains became
  double life = 0;          ///< for how many batches
  double price = 0;         ///< of its moves: rounds * round_cost
  Index moves = 0;          ///< experts that other ranks send
  Index rounds = 0;
};

/// What a controller has seen and done.
struct ControllerStats {
  std::int64_t batches = 0;  ///< all but the ignored ones
  std::int64_t ignored = 0;  ///< with fewer than min_tokens
  std::int64_t decisions = 0;
  std::int64_t rebalances = 0;
  std::int64_t moves = 0;   ///< of all rebalances
  std::int64_t rounds = 0;  ///< of all rebalances
  std::int64_t age = 0;     ///< batches since the last rebalance, or since construction
  double life = 0;          ///< expected now, in batches
  double trust = 0;         ///< what a predicted gain is multiplied by: 0.1 to 1
  double predicted = 0;     ///< the gain for which the placement in use was chosen
  double measured = 0;      ///< the mean gain over `age` batches against the placement before it
};

/// Decides when the placement of one layer changes, and to what.
///
/// A decision compares the placement in use with the best of two searches: place_homes() from the
/// slots in use, and the same with homes that may move. Both are judged by the split in use, batch
/// by batch. A change is made if
///
///     gain * trust * life > rounds * round_cost
///
/// and if the gain is at least min_gain of the load, and above twice its standard error over the
/// window, which must hold two batches, or be full. `trust` is the part of predicted gains that
/// batches afterwards have shown: each batch is also judged with the placement before the last
/// rebalance. `life` is how many batches placements have stayed in use.
///
/// Deterministic: equal batches give equal decisions, on every machine with the same floating-point
/// arithmetic. Not thread-safe.
class LPLB_API RebalanceController {
 public:
  /// `placement`: what is in use. Throws ArgumentError if an option is out of its range, or the
  /// cost does not fit the placement.
  RebalanceController(const Placement& placement, const ControllerOptions& options);
  ~RebalanceController();
  RebalanceController(RebalanceController&&) noexcept;
  RebalanceController& operator=(RebalanceController&&) noexcept;

  /// Takes a batch, split over placement(). `load` [num_logical], each >= 0; `phase`: 0 to
  /// num_phases - 1. Throws ArgumentError. Takes two solves at most.
  void add(std::span<const Load> load, Index phase = 0);
  /// Whether `interval` batches have come since the last decision.
  bool is_due() const;
  /// Decides now. If the kind is not kKeep, proposal() has the placement; adopt() takes it into
  /// use. Takes up to 2 max_trials trials a phase, which are 20 us each.
  RebalanceDecision decide();
  /// The placement of the last decision.
  const Placement& proposal() const;
  /// From the next batch on proposal() is in use. Call it when the weights are in place. Does
  /// nothing if the last decision was to keep.
  void adopt();

  const Placement& placement() const;
  ControllerStats stats() const;

 private:
  struct LPLB_HIDDEN State;
  std::unique_ptr<State> state_;
};

}  // namespace lplb
