// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/host_device.h"
#include "solve/tables.h"

// SplitProblem::Tables as kernels read them: one block of bytes, the "image", made on the host when
// the placement changes and copied as a whole. All offsets are here and nowhere else.
//
// Places become lanes. An expert's places are neighbours in one warp: a group of lanes whose width
// is a power of two, aligned to it. Groups of one colour fill tiles of 32 lanes; an expert with
// more than 32 places takes several tiles of its own. A colour's tiles are neighbours, and no rank
// occurs twice in them, so that a block levels a colour in one go. Lane order within an expert is
// place order, ranks ascending.
namespace lplb::solvers {

inline constexpr int kLanes = 32;

struct DeviceLane {
  std::uint16_t rank;
  std::uint16_t expert;    ///< k, as in Tables
  std::uint16_t position;  ///< among the expert's places; kNoLane on a lane that pads
  std::uint16_t count;     ///< of the expert's places, on lanes that pad its group too; else 0
};
inline constexpr std::uint16_t kNoLane = 0xFFFF;

struct DeviceTile {
  std::uint16_t width;  ///< the widest group, a power of two
  std::uint16_t span;   ///< tiles that the one expert here takes; 0: the tile before says so
};

/// Where a slot's tokens come from: `index`-th of `count` slots that share what one place takes (or
/// one fixed expert has) evenly, the first ones taking the odd tokens.
struct DeviceSlot {
  std::uint16_t lane;    ///< kNoLane: of a fixed expert
  std::uint16_t expert;  ///< logical
  std::uint16_t index;
  std::uint16_t count;  ///< 0: nothing comes here (a dead rank)
};

/// What a logical expert is to the solvers.
struct DeviceExpert {
  std::uint16_t is_fixed;
  std::uint16_t index;  ///< its rank where fixed, else k
};

struct DeviceTablesHeader {
  std::int32_t num_ranks;
  std::int32_t num_logical;
  std::int32_t num_physical;
  std::int32_t num_replicated;
  std::int32_t num_colours;
  std::int32_t num_tiles;
  std::int32_t num_parts;
  std::int32_t num_live;
  // Bytes from the start of the image, multiples of 16. What solvers read ends at `solver_bytes`.
  std::int32_t experts;         ///< DeviceExpert [num_logical]; behind the header: kExpertsOffset
  std::int32_t lanes;           ///< DeviceLane [num_tiles * 32]
  std::int32_t tiles;           ///< DeviceTile [num_tiles]
  std::int32_t colour_begin;    ///< uint16 [num_colours + 1], into tiles
  std::int32_t incident_begin;  ///< uint16 [num_ranks + 1]
  std::int32_t incident;        ///< uint16 [num places]: lanes on a rank, ascending by place
  std::int32_t part_of;         ///< uint16 [num_ranks]; kNoLane: the rank is dead
  std::int32_t part_size;       ///< uint16 [num_parts]
  std::int32_t live_rank;       ///< uint16 [num_live], ascending
  std::int32_t reciprocal;      ///< uint32 [kLanes + 1]: floor(2^32 / n), [0] and [1] are unused
  std::int32_t solver_bytes;
  std::int32_t slots;       ///< DeviceSlot [num_physical]
  std::int32_t bytes;       ///< of the whole image
  std::int32_t most_tiles;  ///< of a colour
  std::int32_t most_span;   ///< tiles of an expert
  std::int32_t unused;
};
inline constexpr std::int32_t kExpertsOffset = sizeof(DeviceTablesHeader);
static_assert(kExpertsOffset % 16 == 0);

/// One view for host and device; the image may lie in any memory.
class DeviceTablesView {
 public:
  LPLB_HOST_DEVICE explicit DeviceTablesView(const void* image)
      : base_(static_cast<const unsigned char*>(image)) {}

  LPLB_HOST_DEVICE const DeviceTablesHeader& header() const { return *at<DeviceTablesHeader>(0); }
  LPLB_HOST_DEVICE const DeviceLane* lanes() const { return at<DeviceLane>(header().lanes); }
  LPLB_HOST_DEVICE const DeviceTile* tiles() const { return at<DeviceTile>(header().tiles); }
  LPLB_HOST_DEVICE const std::uint16_t* colour_begin() const { return ids(header().colour_begin); }
  LPLB_HOST_DEVICE const std::uint16_t* incident_begin() const {
    return ids(header().incident_begin);
  }
  LPLB_HOST_DEVICE const std::uint16_t* incident() const { return ids(header().incident); }
  LPLB_HOST_DEVICE const std::uint16_t* part_of() const { return ids(header().part_of); }
  LPLB_HOST_DEVICE const std::uint16_t* part_size() const { return ids(header().part_size); }
  LPLB_HOST_DEVICE const std::uint16_t* live_rank() const { return ids(header().live_rank); }
  LPLB_HOST_DEVICE const std::uint32_t* reciprocal() const {
    return at<std::uint32_t>(header().reciprocal);
  }
  LPLB_HOST_DEVICE const DeviceExpert* experts() const {
    return at<DeviceExpert>(header().experts);
  }
  LPLB_HOST_DEVICE const DeviceSlot* slots() const { return at<DeviceSlot>(header().slots); }

 private:
  template <class T>
  LPLB_HOST_DEVICE const T* at(std::int32_t offset) const {
    return reinterpret_cast<const T*>(base_ + offset);
  }
  LPLB_HOST_DEVICE const std::uint16_t* ids(std::int32_t offset) const {
    return at<std::uint16_t>(offset);
  }

  const unsigned char* base_;
};

/// The image of `tables`, and where each place went.
struct DeviceImage {
  std::vector<unsigned char> bytes;
  std::vector<Index> lane_of_place;  ///< [num places]

  const DeviceTablesHeader& header() const { return DeviceTablesView(bytes.data()).header(); }
  void assign(const SplitProblem::Tables& tables);
};

/// Bytes that no image of a placement with these sizes exceeds: a planner's memory is laid out for
/// the worst case within its limits.
std::size_t max_image_bytes(Index num_ranks, Index num_logical, Index num_physical);

}  // namespace lplb::solvers
