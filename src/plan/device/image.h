// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "lplb/exchange.h"
#include "solve/device/device_tables.h"

// A placement as the plan's kernels read it: one block of bytes in device memory, rewritten in
// place when the placement changes. Its sizes are in its header, so that a captured launch stays
// valid. All offsets are here. It holds the tables of the experts and replicas, and those of the
// solver.
namespace lplb::plan {

/// The code of a logical id: all that the plan needs to know of it, in one int. The high bits are
/// its column. The low bits are its physical id plus 1 if it has one replica, else 0. The two
/// columns at the end stand for ids that are no experts.
inline constexpr int kCodeBits = 13;
inline constexpr int kCodeMask = (1 << kCodeBits) - 1;
static_assert(kMaxPhysical + 1 <= 1 << kCodeBits);
/// The columns after those that are exchanged: for bad ids, and for -1.
enum OddColumn { kColumnBad, kColumnDropped, kOddColumns };
static_assert(kMaxPhysical + kMaxRanks + kOddColumns <= 1 << (31 - kCodeBits));

/// A replica of an expert that has several. How many tokens it takes follows from the solver's
/// `take`.
struct Replica {
  std::uint16_t place;   ///< solvers::kNoPlace: the expert's live replicas are all on one rank
  std::uint16_t index;   ///< its number among the replicas that share what the place takes
  std::uint16_t count;   ///< how many these are; 0: nothing comes here (a dead rank)
  std::uint16_t column;  ///< the expert's column, see Header
};

/// Where the solver takes the sum of a column of the packed counts.
enum Target : std::int32_t {
  kTargetWant = 0,          ///< want[value]
  kTargetFixed = 1 << 16,   ///< fixed[value]: a rank
  kTargetNobody = 2 << 16,  ///< no expert is counted here, so the sum must be 0
  kTargetMask = 0xFFFF,
};

/// The start of an image. "Columns" are the integers of PackedLayout: one for each of the K experts
/// with several replicas, then one for each rank; or one for each expert, if costs are known. With
/// dynamic slots there is one for each expert, all K = num_logical of them count as experts with
/// several replicas, and the replicas here are those in main slots: kernels add the copies.
struct Header {
  std::int32_t num_ranks;
  std::int32_t num_logical;
  std::int32_t num_replicated;  ///< K
  std::int32_t num_columns;     ///< K + num_ranks; with costs num_logical
  std::int32_t num_replicas;    ///< of the K experts
  std::int32_t slots_per_rank;
  std::int32_t ranks_per_node;
  std::int32_t solver_threads;
  std::int32_t solver_form;  ///< solvers::Form
  std::int32_t column_bits;  ///< the least number of bits with num_columns <= 1 << column_bits
  /// Counts are exchanged in rows, one for each member of the group, in order of rank: see
  /// plan/members.h.
  std::int32_t num_rows;
  /// Rows that a thread sums over, if the kThreads threads share the columns and the rows.
  std::int32_t stretch_rows;
  std::uint32_t fingerprint[2];  ///< of the placement, solver and costs; equal on all ranks
  std::int32_t safe_count;       ///< num_columns counts up to this one sum to at most 2^31 - 1
  std::uint32_t layout[2];       ///< PackedLayout::fingerprint
  // The following are offsets in bytes from the start of the image, in multiples of 16.
  std::int32_t codes;     ///< int32 [num_logical + 2]: ids from -1 on; the last is for all others
  std::int32_t targets;   ///< int32 [num_columns]: Target | value
  std::int32_t physical;  ///< int32 [num_replicas], ascending within an expert
  std::int32_t replicas;  ///< Replica [num_replicas]
  std::int32_t replica_rank;   ///< uint16 [num_replicas]
  std::int32_t replica_begin;  ///< uint16 [K + 1]
  std::int32_t logical;        ///< uint16 [K]
  std::int32_t alive;          ///< char [num_ranks]
  std::int32_t row_begin;      ///< uint16 [num_ranks + 1]: the rows of lower ranks
  std::int32_t solver;         ///< the solver's image, its first solver_bytes
  std::int32_t bytes;          ///< kernels keep what precedes this in shared memory
  std::int32_t owner;          ///< uint16 [num_physical]: the logical id in each slot; for checks
  std::int32_t total_bytes;
  std::int32_t unused[2];
};
static_assert(sizeof(Header) % 16 == 0);

/// The limits of all placements in the life of a planner.
struct Limits {
  Index num_ranks;
  Index num_logical;
  Index max_redundants;
  const CostModel* cost = nullptr;
  Index dynamic_slots = 0;  ///< of each rank

  int num_dynamic() const { return dynamic_slots * num_ranks; }
  /// With dynamic slots every expert may have several replicas.
  int max_replicated() const {
    return max_redundants < num_logical && dynamic_slots == 0 ? max_redundants : num_logical;
  }
  int max_columns() const {
    return cost != nullptr || dynamic_slots > 0 ? num_logical : max_replicated() + num_ranks;
  }
  int max_replicas() const { return max_replicated() + max_redundants + num_dynamic(); }
  int max_physical() const { return num_logical + max_redundants; }
};

/// The largest size in bytes of an image within the limits.
std::size_t max_image_bytes(const Limits& limits);

/// Makes images. It keeps its memory from one to the next.
class Image {
 public:
  /// `solver` is kCut or kFlow. `num_members`: the ranks of the group. `cost`: what tokens cost, or
  /// null. Throws ArgumentError if the model does not fit the placement.
  void assign(const Placement& placement, Solver solver, Index num_members,
              const CostModel* cost = nullptr);

  /// The image of a placement with dynamic slots. It has no solver. `options`: a hash of how copies
  /// are chosen, equal on all ranks.
  void assign_with_copies(const Placement& placement, Index num_members, Index dynamic_slots,
                          std::uint64_t options);

  const std::vector<unsigned char>& bytes() const { return bytes_; }
  const Header& header() const { return *reinterpret_cast<const Header*>(bytes_.data()); }
  const PackedLayout& layout() const { return layout_; }
  /// Header::fingerprint.
  std::uint64_t fingerprint() const {
    return static_cast<std::uint64_t>(header().fingerprint[1]) << 32 | header().fingerprint[0];
  }

 private:
  PackedLayout layout_;
  solvers::TimeModel model_;
  solvers::DeviceImage solver_;
  std::vector<unsigned char> bytes_;
};

}  // namespace lplb::plan
