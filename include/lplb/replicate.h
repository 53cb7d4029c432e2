// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "lplb/export.h"
#include "lplb/solver.h"
#include "lplb/types.h"

namespace lplb {

inline constexpr Index kMaxDynamicSlots = 8;
inline constexpr double kMaxCopyTarget = 1000;

/// What a copy costs and what it wins, if that is to be compared. The time of a batch is taken as
/// max_load * us_per_token, plus the time for which the busiest rank sends or receives copies, as
/// far as nothing hides it.
struct CopyCost {
  double us_per_token = 0;     ///< time of a token on a rank of speed 1; 0: nothing is compared
  double expert_bytes = 0;     ///< bytes of an expert's weights, > 0
  double gigabytes_per_s = 0;  ///< what a rank sends and receives, each way, > 0; 1e9 bytes
  double hidden_us = 0;        ///< how long copies travel behind other work, for nothing
};

/// Optional arguments of replicate() and Replicator.
struct ReplicateOptions {
  Index dynamic_slots = 1;  ///< S: of each rank, 1 to kMaxDynamicSlots
  /// Copies are made until max_load is at most `target` times the mean load / speed of the live
  /// ranks, or as near to that as possible; 1 to kMaxCopyTarget. A larger one takes fewer copies.
  double target = 1;
  Load min_tokens = 1;    ///< what a copy carries at least, >= 1
  Index num_domains = 1;  ///< divides num_ranks: consecutive ranks, which copies do not leave
  CopyCost cost = {};     // NOLINT(readability-redundant-member-init)
};

/// Which experts are copied where for one batch, and the split over main and dynamic slots. Rank g
/// has slots g * (M + S) to g * (M + S) + M + S - 1: first the M slots of the placement, its main
/// slots, then S dynamic slots. An object that is used again keeps its memory.
struct Replication {
  SolveStatus status = SolveStatus::kOptimal;  ///< kOptimal: max_load == lower_bound
  double max_load = 0;                         ///< T: max over ranks of load / speed
  /// No choice of copies and no split into whole tokens has a smaller T, whatever the target.
  double lower_bound = 0;
  /// The proof of lower_bound: live ranks, ascending. Even if all other live ranks take all tokens
  /// that their main slots and any copies let them take, these ranks are left with more than they
  /// can carry below the bound (docs/math.md).
  std::vector<Index> bottleneck_ranks;
  Level max_level;    ///< max_load, exactly, and a rank that carries it
  Level bound_level;  ///< lower_bound, exactly

  Index copies = 0;        ///< dynamic slots in use
  Index max_sent = 0;      ///< copies that the busiest rank sends
  Index max_received = 0;  ///< copies that the busiest rank receives
  /// [num_ranks, S]: the expert in each dynamic slot, -1: unused. Never an expert that is in
  /// another slot of the rank. Slots in use come first.
  std::vector<Index> slot_expert;
  /// [num_ranks, S]: a live rank of the same domain that has the expert in a main slot and sends
  /// it, -1: unused.
  std::vector<Index> slot_source;

  std::vector<Load> rank_load;      ///< [num_ranks]
  std::vector<Load> physical_load;  ///< [num_ranks * (M + S)]: tokens that each slot takes

  // Only with a CopyCost, otherwise 0.
  double saved_us = 0;    ///< time that the copies save against the best split without them
  double exposed_us = 0;  ///< time of sending them that nothing hides; below saved_us
};

/// Chooses copies for the batches of one placement. Keeps tables of the placement and its scratch
/// memory; each thread needs an object of its own. The result depends only on the arguments.
class LPLB_API Replicator {
 public:
  /// Throws ArgumentError if make_placement() did not make `placement`, an option is out of range,
  /// or main and dynamic slots together are more than kMaxPhysical.
  explicit Replicator(const Placement& placement, const ReplicateOptions& options = {});
  ~Replicator();
  Replicator(Replicator&&) noexcept;
  Replicator& operator=(Replicator&&) noexcept;

  /// Chooses the copies and the split of a batch. `load` [num_logical]. Does not allocate once the
  /// object and `out` have seen a batch. Throws ArgumentError if a load is negative, the sum passes
  /// 2^63 - 1, or `load` has another length.
  ///
  /// Among plans of the same max_load, few copies are preferred; their number is not proven to be
  /// least. Takes a few microseconds for 8 ranks and about 20 for 64 (docs/replicas.md).
  void run(std::span<const Load> load, Replication& out);

  struct LPLB_HIDDEN State;

 private:
  std::unique_ptr<State> state_;
};

/// The same in one call, for a single use.
LPLB_API Replication replicate(const Placement& placement, std::span<const Load> load,
                               const ReplicateOptions& options = {});

/// The copies as DeepEP 2.5 takes them, its redundancy_mapping: [num_ranks, S], a block of rows for
/// each domain of `num_domains`. An entry is r * M + i: in the same domain, rank r has the expert
/// in main slot i, and sends it; -1: unused. The physical ids rank * (M + S) + slot, numbered
/// within the domain, are DeepEP's too. Throws ArgumentError if `replication` is not of this
/// placement.
LPLB_API std::vector<std::int32_t> redundancy_mapping(const Placement& placement,
                                                      const Replication& replication,
                                                      Index num_domains = 1);

/// The copies as Megatron-LM takes them (pull request 7450), its experts_to_copy: [num_ranks,
/// columns], slot_expert with -1 in further columns. Megatron has num_logical / num_ranks columns.
/// Throws ArgumentError if `columns` is less than S, or `num_ranks` is not that of `replication`.
LPLB_API std::vector<std::int32_t> experts_to_copy(const Replication& replication, Index num_ranks,
                                                   Index columns);

/// Checks a result from first principles, with code that shares nothing with Replicator:
///
/// - dynamic slots hold experts that the rank has nowhere else, from a source in the same domain,
///   only on live ranks, and each carries at least min_tokens;
/// - the slots of an expert on live ranks, and only these, take all its tokens;
/// - rank_load, max_load, copies, max_sent and max_received follow from that;
/// - bottleneck_ranks proves lower_bound, and kOptimal means that max_load equals it.
///
/// Returns what is wrong, or an empty string.
LPLB_API std::string verify_replication(const Placement& placement, std::span<const Load> load,
                                        const ReplicateOptions& options,
                                        const Replication& replication);

}  // namespace lplb
