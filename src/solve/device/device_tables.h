// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/host_device.h"
#include "solve/tables.h"
#include "solve/time/model.h"

// SplitProblem::Tables as kernels read them: one block of bytes, the "image". The host makes it
// when the placement changes, and it is copied as a whole. All offsets are here and nowhere else.
// Experts and places are numbered as in Tables: by colour, so that the experts of a colour are
// neighbours.
namespace lplb::solvers {

using device::kWarpSize;
inline constexpr int kMostReciprocal = 128;

/// What `tokens` cost on `rank`: Level in 32 bits.
struct DeviceLevel {
  int tokens;
  int rank;

  LPLB_HOST_DEVICE bool operator==(const DeviceLevel& other) const {
    return tokens == other.tokens && rank == other.rank;
  }
};

/// Where a slot's tokens come from. It is the `index`-th of `count` slots that evenly share what a
/// place takes, or what a fixed expert has. The first slots take the odd tokens.
struct DeviceSlot {
  std::uint16_t place;   ///< kNoPlace: the slot is of a fixed expert
  std::uint16_t expert;  ///< logical
  std::uint16_t index;
  std::uint16_t count;  ///< 0: nothing comes here (a dead rank)
};
inline constexpr std::uint16_t kNoPlace = 0xFFFF;

/// What the solvers know of a logical expert.
struct alignas(4) DeviceExpert {
  std::uint16_t is_fixed;
  std::uint16_t index;  ///< its rank if it is fixed, else k
};

/// A CostCurve. Tables end at 2^31 - 1 tokens, which no batch passes.
struct alignas(16) DeviceCurve {
  std::int64_t rank;
  std::int64_t then_cost;
  std::int32_t then_every;
  std::uint32_t reciprocal;  ///< floor((2^32 - 1) / then_every)
  std::int32_t begin;        ///< of its steps
  std::int32_t num_steps;    ///< at least 1
  std::int32_t last_tokens;  ///< of its last step
  std::int32_t unused[3];
};

/// If all that a batch costs, and any rank's constant, is less, two prices sum to less than 2^31.
inline constexpr std::int64_t kNarrowCost = std::int64_t{1} << 30;

/// What an image holds in addition for splits by costs. Offsets are as in DeviceTablesHeader.
struct alignas(16) DeviceCosts {
  std::int32_t one_step;     ///< with a uniform model: the most tokens of the first step; else -1
  std::int32_t least;        ///< with a uniform model: the curve TimeModel::least(); else -1
  std::int32_t curve_of;     ///< uint16 [num_ranks]
  std::int32_t curves;       ///< DeviceCurve
  std::int32_t step_tokens;  ///< int32: the steps of all curves
  std::int32_t step_cost;    ///< int64
  /// Whatever the split, if no rank had more tokens before, a batch costs less than kNarrowCost in
  /// all; -1: no batch does for sure.
  std::int32_t narrow_load;
  std::int32_t unused;
};

struct DeviceTablesHeader {
  std::int32_t num_ranks;
  std::int32_t num_logical;
  std::int32_t num_physical;
  std::int32_t num_replicated;
  std::int32_t num_places;
  std::int32_t num_colours;
  std::int32_t num_parts;
  std::int32_t num_live;
  // The following are offsets in bytes from the start of the image, in multiples of 16. What
  // solvers read ends at `solver_bytes`.
  std::int32_t experts;         ///< DeviceExpert [num_logical]; after the header: kExpertsOffset
  std::int32_t colour_begin;    ///< uint16 [num_colours + 1], into the replicated experts
  std::int32_t place_begin;     ///< uint16 [num_replicated + 1]
  std::int32_t place_rank;      ///< uint16 [num_places], ascending within an expert
  std::int32_t incident_begin;  ///< uint16 [num_ranks + 1]
  std::int32_t incident;        ///< uint16 [num_places]: places on a rank, ascending
  std::int32_t incident_owner;  ///< uint16 [num_places]: their replicated experts
  std::int32_t part_of;         ///< uint16 [num_ranks]; kNoPlace: the rank is dead
  std::int32_t part_size;       ///< uint16 [num_parts]
  std::int32_t live_rank;       ///< uint16 [num_live], ascending
  std::int32_t expert_ranks;    ///< uint32 [num_replicated, mask_words]: bit r: it has a place on r
  std::int32_t live_set;  ///< uint16 [num_replicated]: bit i: on live rank i; all 0 beyond 8 ranks
  /// uint32 [n + 1]: floor((2^32 - 1) / i); [0] is unused. n is num_ranks, but at least
  /// kMaxCutRanks and at most kMostReciprocal.
  std::int32_t reciprocal;
  std::int32_t solver_bytes;
  std::int32_t slots;         ///< DeviceSlot [num_physical]
  std::int32_t bytes;         ///< of the whole image
  std::int32_t mask_words;    ///< mask_words()
  std::int32_t most_experts;  ///< of one colour
  std::int32_t most_places;   ///< of one expert
  std::int32_t costs;         ///< DeviceCosts; 0: there are none
};
inline constexpr std::int32_t kExpertsOffset = sizeof(DeviceTablesHeader);
static_assert(kExpertsOffset % 16 == 0);

/// Words of a set of ranks; 0 if there are too many ranks for sets.
inline std::int32_t mask_words(Index num_ranks) {
  return num_ranks <= 32 ? 1 : num_ranks <= 96 ? 3 : num_ranks <= 128 ? 4 : 0;
}

/// The image of `tables`.
struct DeviceImage {
  std::vector<unsigned char> bytes;

  const DeviceTablesHeader& header() const {
    return *reinterpret_cast<const DeviceTablesHeader*>(bytes.data());
  }
  /// `model`: what tokens cost, or null.
  void assign(const SplitProblem::Tables& tables, const TimeModel* model = nullptr);
};

/// The steps that a device may take: `max_steps`. If that is < 0: so many that only a fault could
/// need more, because each wave raises the distance of every rank above the bound.
inline int device_steps(Index num_ranks, std::int64_t max_steps) {
  const std::int64_t limit = 64 + std::int64_t{16} * num_ranks;
  return static_cast<int>(max_steps < 0 || max_steps > limit ? limit : max_steps);
}

/// The largest size in bytes of an image of a placement with these sizes. A planner's memory is
/// laid out for the worst case within its limits.
std::size_t max_image_bytes(Index num_ranks, Index num_logical, Index num_physical);
/// What a model adds to it.
std::size_t max_cost_bytes(Index num_ranks, const CostModel& model);

}  // namespace lplb::solvers
