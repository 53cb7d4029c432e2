// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "lplb/exchange.h"
#include "solve/device/device_tables.h"

// A placement as the plan's kernels read it: one block of bytes in the device's memory, rewritten
// in place when the placement changes. Sizes are in its header, so that a captured launch goes on
// working. All offsets are here. In addition to the experts and replicas it holds the solver's
// tables.
namespace lplb::plan {

/// What a logical id is to the plan, in one int: its column, and in the low bits the physical id
/// plus 1 where it has one replica alone, else 0. Columns at the end stand for ids that are no
/// experts.
inline constexpr int kCodeBits = 13;
inline constexpr int kCodeMask = (1 << kCodeBits) - 1;
static_assert(kMaxPhysical + 1 <= 1 << kCodeBits);
/// Columns behind those that are exchanged: of bad ids, and of -1.
enum OddColumn { kColumnBad, kColumnDropped, kOddColumns };
static_assert(kMaxPhysical + kMaxRanks + kOddColumns <= 1 << (31 - kCodeBits));

/// A replica of an expert that has several; what it takes follows from the solver's `take`.
struct Replica {
  std::uint16_t place;   ///< solvers::kNoPlace: the expert's live replicas are all on one rank
  std::uint16_t index;   ///< among the replicas that share what the place takes
  std::uint16_t count;   ///< of these; 0: nothing comes here (a dead rank)
  std::uint16_t column;  ///< the expert, as below
};

/// Where the solver wants the sum of a column of the packed counts.
enum Target : std::int32_t {
  kTargetWant = 0,          ///< want[value]
  kTargetFixed = 1 << 16,   ///< fixed[value]: a rank
  kTargetNobody = 2 << 16,  ///< no expert is counted here: the sum is 0
  kTargetMask = 0xFFFF,
};

/// "Columns" are the integers of PackedLayout: K experts with several replicas, then ranks.
struct Header {
  std::int32_t num_ranks;
  std::int32_t num_logical;
  std::int32_t num_replicated;  ///< K
  std::int32_t num_columns;     ///< K + num_ranks
  std::int32_t num_replicas;    ///< of the K experts
  std::int32_t slots_per_rank;
  std::int32_t ranks_per_node;
  std::int32_t solver_threads;
  std::int32_t solver_form;      ///< solvers::Form
  std::int32_t column_bits;      ///< num_columns <= 1 << column_bits
  std::int32_t stretch_ranks;    ///< ranks that a thread sums over where kThreads share the columns
  std::uint32_t fingerprint[2];  ///< of the placement and the solver: ranks must agree on it
  std::int32_t safe_count;       ///< counts up to here sum to no more than 2^31 - 1
  std::uint32_t layout[2];       ///< PackedLayout::fingerprint
  // Bytes from the start, multiples of 16.
  std::int32_t codes;     ///< int32 [num_logical + 2]: of ids from -1 on, the last of all others
  std::int32_t targets;   ///< int32 [num_columns]: Target | value
  std::int32_t physical;  ///< int32 [num_replicas], ascending within an expert
  std::int32_t replicas;  ///< Replica [num_replicas]
  std::int32_t replica_rank;   ///< uint16 [num_replicas]
  std::int32_t replica_begin;  ///< uint16 [K + 1]
  std::int32_t logical;        ///< uint16 [K]
  std::int32_t alive;          ///< char [num_ranks]
  std::int32_t solver;         ///< the solver's image, up to its solver_bytes
  std::int32_t bytes;          ///< what kernels keep in shared memory ends here
  std::int32_t owner;          ///< uint16 [num_physical]: logical id; for checks
  std::int32_t total_bytes;
};
static_assert(sizeof(Header) % 16 == 0);

/// What a placement may have, over a planner's life.
struct Limits {
  Index num_ranks;
  Index num_logical;
  Index max_redundants;

  int max_replicated() const { return max_redundants < num_logical ? max_redundants : num_logical; }
  int max_columns() const { return max_replicated() + num_ranks; }
  int max_replicas() const { return max_replicated() + max_redundants; }
  int max_physical() const { return num_logical + max_redundants; }
};

/// Bytes that no image within the limits exceeds.
std::size_t max_image_bytes(const Limits& limits);

/// Makes images; keeps its memory.
class Image {
 public:
  /// `solver` is kCut or kFlow.
  void assign(const Placement& placement, Solver solver);

  const std::vector<unsigned char>& bytes() const { return bytes_; }
  const Header& header() const { return *reinterpret_cast<const Header*>(bytes_.data()); }
  const PackedLayout& layout() const { return layout_; }
  /// Of Header.
  std::uint64_t fingerprint() const {
    return static_cast<std::uint64_t>(header().fingerprint[1]) << 32 | header().fingerprint[0];
  }

 private:
  PackedLayout layout_;
  solvers::DeviceImage solver_;
  std::vector<unsigned char> bytes_;
};

}  // namespace lplb::plan
