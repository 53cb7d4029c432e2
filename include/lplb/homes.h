// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "lplb/backend.h"
#include "lplb/export.h"
#include "lplb/placement.h"
#include "lplb/types.h"

namespace lplb {

/// An expert that must be on a rank.
struct PinnedExpert {
  Index expert;
  Index rank;
};

/// Optional arguments of place_homes().
struct HomesOptions {
  int num_threads = 1;  ///< >= 1: how many layers are placed in parallel. The result is the same
  /// The budget of each layer: how many changes are judged by exact splits, >= 0. More trials never
  /// give a worse HomesPlacement::judged.
  std::int64_t max_trials = 2000;
  /// With old placements: at most that many slots of a layer get an expert that is new on their
  /// rank. < 0: no limit. Slots that have to be filled, because ranks died or slots were added, are
  /// filled even above the limit.
  std::int64_t max_moves = -1;
  /// With old placements: the experts of all layers together that are new on their rank have at
  /// most that many bytes. < 0: no limit. It goes to the layers where it lowers the sum of
  /// HomesPlacement::judged most. A larger limit never gives a larger sum. As with max_moves, slots
  /// that have to be filled are filled. Each layer is searched several times, with limits of 1, 2,
  /// 3, 4, 6, 8, 12 moves and so on; each search may take max_trials.
  std::int64_t max_bytes = -1;
  std::int64_t expert_bytes = 0;  ///< of an expert's weights in one layer; >= 1 with max_bytes
  /// The search ends after that many seconds, >= 0, shared among the layers, even if trials are
  /// left. How far each layer comes then depends on the machine and on what else runs, so the
  /// result cannot be repeated. For a layer alone, without max_bytes, it is that of as many
  /// max_trials as HomesPlacement::trials says.
  double max_seconds = std::numeric_limits<double>::infinity();
  /// With old placements: an expert moves only if that lowers the mean imbalance by so much. Finite
  /// and >= 0.
  double min_gain = 0.0003;
  /// Homes may move, too: the first placement packs them by load, and the search may exchange two
  /// of them. With old placements each of the two must gain 3 min_gain.
  bool move_homes = false;
  /// Begin the search with replicas by load, in place of those of the old placement. With
  /// move_homes also with packed homes; ranks are then renamed so that many homes stay, unless
  /// speeds differ.
  bool restart = false;
  /// Judge by the batches alone. Otherwise the placement must also do well on 8 invented batches,
  /// whose experts have drifted.
  bool batches_only = false;
  /// Dynamic slots of each rank, 0 to kMaxDynamicSlots, that batches will have in addition to
  /// num_replicas. With some, a placement is judged by the largest load / speed that replicate()
  /// leaves, which counts three quarters, and by the exact split without copies. The search then
  /// takes two to five times as long.
  Index dynamic_slots = 0;
  Index num_domains = 1;  ///< with dynamic slots: as in ReplicateOptions
  /// Where the search runs. Both give the same placement; with max_seconds the device may come
  /// further. On the device all layers are searched at once, so num_threads counts for little. It
  /// takes neither dynamic slots, max_bytes nor unequal speeds; at most 128 live ranks and 2048
  /// slots of them, and as many batches as fit the memory of a block: for 256 experts and 320 slots
  /// about 45, invented ones included.
  Backend backend = Backend::kCpu;
  std::vector<PinnedExpert> pinned = {};  // NOLINT(readability-redundant-member-init)
  /// [num_ranks] or empty, as in Placement.
  std::vector<double> rank_speed = {};  // NOLINT(readability-redundant-member-init)
  std::vector<char> rank_alive = {};    // NOLINT(readability-redundant-member-init)
};

/// The result of place_homes(). An imbalance here is the largest load / speed of a rank, divided by
/// that of a perfect split: the whole load / the speeds' sum.
struct HomesPlacement {
  ExpertMaps maps;
  /// [num_layers]: what the search made small: the mean imbalance of the exact split, over the
  /// weighted batches and the invented ones; with dynamic slots three quarters of it are that of
  /// replicate(). 1.0 is perfect, and also the value of a layer without load.
  std::vector<double> judged;
  std::vector<double> judged_before;  ///< [num_layers]: the same of the start of the search
  /// [num_layers]: the mean over the recorded batches alone. With dynamic slots that of replicate()
  std::vector<double> imbalance;
  std::vector<Index> moves;          ///< [num_layers]: slots with an expert new on their rank
  std::vector<std::int64_t> trials;  ///< [num_layers]: of all searches of the layer
};

/// Homes and replica slots, for use with an exact split. Each expert has a home, which stays. The
/// other slots are the replica slots. A hill climb gives them to the experts whose replicas lower
/// the imbalance most, and judges each change by the exact split (solve()) of every batch, not of
/// their sum.
///
/// - A batch counts the more, the more it resembles the last one: by the fourth power of the part
///   of their load that the two have in common, but at least a tenth of what the last one counts.
/// - The 8 invented batches are the weighted mean of the window, in which each expert's load is
///   multiplied by 0.46 to 2.15. Together they count a fifth.
/// - Without old placements homes are contiguous: expert e is on live rank e * num_ranks /
///   num_logical, and all ranks have equally many homes, or one more. With old placements an
///   expert's home is its live replica that comes first on its rank; of several, the one on the
///   lowest rank. Homes stay in their slots, so the home of a placement by this function stays
///   where it is. A home that died or whose slot is gone goes to the rank whose homes have the
///   least load.
/// - The search begins with the slots of the old placement, otherwise with replicas by load.
/// - No expert is on a rank twice. Slot p of a dead rank holds expert p % num_logical.
///
/// Without max_seconds the result does not depend on the number of threads or on the machine.
///
/// - `loads` [num_batches, num_layers, num_logical]: finite and >= 0, the last batch last. Batches
///   in which a layer has no load do not count for it.
/// - `num_replicas`: all slots, a multiple of num_ranks. A rank has at most num_logical slots, and
///   the live ranks have at least num_logical.
/// - `from`: empty, or [num_layers]: the placements in use. Rank g is rank g and slot i of a rank
///   is slot i, as in plan_moves(); the numbers of ranks and slots may differ.
///
/// Throws ArgumentError and CudaError. Takes about 20 us a trial for 8 batches and the invented
/// ones. With Backend::kCuda it allocates on the current device, and waits for it.
LPLB_API HomesPlacement place_homes(std::span<const double> loads, Index num_batches,
                                    Index num_layers, Index num_logical, Index num_replicas,
                                    Index num_ranks, std::span<const Placement> from = {},
                                    const HomesOptions& options = {});

}  // namespace lplb
