// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/host_device.h"
#include "lplb/types.h"
#include "solve/device/device_tables.h"

// What the host and the kernel that chooses copies share: the image of a placement, and where
// everything is in a block's shared memory.
namespace lplb::replicas {

inline constexpr int kCopyThreads = 512;
inline constexpr int kMostAttempts = 16;  ///< attempts side by side: one for each warp of the block
inline constexpr int kMaxCopyRanks = 128;
/// One thread looks through the main slots of a rank that has at most this many.
inline constexpr int kFewSlots = 8;
inline constexpr std::uint16_t kNoExpert = 0xFFFF;  ///< in the main slots of dead ranks

/// The sizes of a problem. The ranks are one domain.
struct CopySizes {
  int num_ranks;
  int num_logical;
  int main_slots;     ///< M, of each rank
  int dynamic_slots;  ///< S, of each rank

  LPLB_HOST_DEVICE int num_main() const { return num_ranks * main_slots; }
  LPLB_HOST_DEVICE int num_dynamic() const { return num_ranks * dynamic_slots; }
  /// Words of a set of ranks.
  LPLB_HOST_DEVICE int rank_words() const { return num_ranks <= 32 ? 1 : num_ranks <= 64 ? 2 : 4; }
  /// Words of a set of ranks of the exact split, which has forms for these alone.
  LPLB_HOST_DEVICE int split_words() const { return rank_words() == 2 ? 3 : rank_words(); }
  /// The most experts that can be on several ranks, and the most places that they have.
  LPLB_HOST_DEVICE int most_replicated() const {
    const int slots = num_main() + num_dynamic();
    return num_logical < slots / 2 ? num_logical : slots / 2;
  }
  LPLB_HOST_DEVICE int most_places() const { return num_main() + num_dynamic(); }
  /// How many of the heaviest experts the bound by slots looks at one by one: as in bound.cc.
  LPLB_HOST_DEVICE int listed(int num_live) const {
    const int most = 2 * dynamic_slots * num_live + 8;
    return num_logical < most ? num_logical : most;
  }
};

/// The start of an image. After it: uint16 slot_expert [num_ranks * M], then uint16 home
/// [num_logical], the first live rank that has the expert; each at a multiple of 16 bytes.
struct alignas(16) CopyImageHeader {
  std::int32_t num_live;
  std::int32_t replicated;  ///< not 0: an expert is in several live slots
  double speed;             ///< of every rank
  double per_part;          ///< 1 / a million times num_live
};

/// Offsets in bytes, in multiples of 16, from `offset`. The image comes first.
struct CopyLayout {
  int offset;       ///< in the block's shared memory; 0 unless another kernel sets it
  int homes;        ///< in the image
  int image_bytes;  ///< of the whole image
  int want;         ///< int [num_logical]: the batch
  int slot_tokens;  ///< int [num_main]: its split over the main slots
  int plan_main;    ///< int [num_main]: what the main slots take in the plan
  int plan_dynamic;
  int dynamic_expert;  ///< int [num_dynamic]: -1: unused
  int source;          ///< int [num_dynamic]: the rank that sends the expert
  int rank_load, heaviest, heaviest_slot, sent;  ///< int [num_ranks]
  int scalars;                                   ///< CopyScalars
  int results;                                   ///< Attempt [kMostAttempts]
  int order_of_rank;          ///< int [num_ranks]: its place among the live ranks, lightest first
  int order_of_expert;        ///< int [num_logical]: the least of the ranks that have it
  int list_want, list_order;  ///< int [listed]: the heaviest experts, heaviest first
  // Attempts, the exact split and the choice of sources use the same memory, one after another.
  int left;  ///< int [num_attempts, num_main]
  int held;  ///< uint16 [num_attempts, num_dynamic]: copies of an attempt
  int tables;
  int bytes;
  int num_attempts;
};

/// The tables of the exact split, which the kernel makes itself, as bytes from
/// `CopyLayout::tables`. The first ones are what solvers::BlockTables reads.
struct CopyTables {
  int header;  ///< solvers::DeviceTablesHeader
  int colour_begin, place_begin, place_rank, incident_begin, incident, incident_owner;
  int part_of, part_size, live_rank, reciprocal;
  int expert_ranks;
  int holders;      ///< uint32 [num_logical, rank_words]: the ranks that have an expert
  int number_of;    ///< uint16 [num_logical]: k; kNoExpert: on one rank only
  int listed;       ///< uint16 [K]: the replicated experts, ascending
  int colour;       ///< uint16 [K]: of listed
  int index;        ///< uint16 [K]: of listed, among those of its colour
  int expert;       ///< uint16 [K]: by k
  int colour_size;  ///< int [K]; then the places of each k
  int used;   ///< uint32 [num_ranks, K / 32 + 1]: colours that a rank's experts have; then the k
  int part;   ///< int [num_ranks]: the least rank of its part
  int state;  ///< solvers::BlockState
  int bytes;

  CopyTables() = default;
  CopyTables(const CopySizes& sizes, int state_bytes) {
    int next = 0;
    const auto take = [&next](int count, int size) {
      const int offset = next;
      next += (count * size + 15) / 16 * 16;
      return offset;
    };
    const int experts = sizes.most_replicated();
    const int places = sizes.most_places();
    const int ranks = sizes.num_ranks;
    header = take(1, sizeof(solvers::DeviceTablesHeader));
    colour_begin = take(experts + 1, 2);
    place_begin = take(experts + 1, 2);
    place_rank = take(places, 2);
    incident_begin = take(ranks + 1, 2);
    incident = take(places, 2);
    incident_owner = take(places, 2);
    part_of = take(ranks, 2);
    part_size = take(ranks, 2);
    live_rank = take(ranks, 2);
    reciprocal = take(solvers::kMostReciprocal + 1, 4);
    expert_ranks = take(experts * sizes.split_words(), 4);
    holders = take(sizes.num_logical * sizes.rank_words(), 4);
    number_of = take(sizes.num_logical, 2);
    listed = take(experts, 2);
    colour = take(experts, 2);
    index = take(experts, 2);
    expert = take(experts, 2);
    colour_size = take(experts + 1, 4);
    used = take(ranks * (experts / 32 + 1), 4);
    part = take(ranks, 4);
    state = take(state_bytes, 1);
    bytes = next;
  }
};

/// Lays out a block's memory with as many attempts side by side as fit `most_bytes`, at least one.
/// `bytes` is larger than `most_bytes` if even that does not fit.
CopyLayout lay_out_copies(const CopySizes& sizes, const CopyTables& tables, int most_bytes);

/// Writes the image of a placement into `image`, which keeps its memory.
void write_copy_image(const Placement& placement, const CopySizes& sizes, const CopyLayout& layout,
                      std::vector<unsigned char>& image);

}  // namespace lplb::replicas
