// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/exact_speed.h"
#include "core/host_device.h"
#include "lplb/types.h"
#include "solve/device/device_tables.h"

// What the host and the kernel that chooses copies share: the image of a placement, and where
// everything is in a block's shared memory.
namespace lplb::replicas {

inline constexpr int kCopyThreads = 512;
inline constexpr int kMostAttempts = 16;  ///< attempts side by side: one for each warp of the block
inline constexpr int kMaxCopyRanks = 128;
inline constexpr int kGeneralWords = kMaxCopyRanks / device::kWarpSize;
/// One thread looks through the main slots of a rank that has at most this many.
inline constexpr int kFewSlots = 8;
inline constexpr std::uint16_t kNoExpert = 0xFFFF;  ///< in the main slots of dead ranks

/// The sizes of a problem.
struct CopySizes {
  int num_ranks;
  int num_logical;
  int main_slots;     ///< M, of each rank
  int dynamic_slots;  ///< S, of each rank
  /// 0: the quick form, for ranks of one speed in one domain. Otherwise the general form, for any
  /// speeds and that many domains.
  int num_domains;

  LPLB_HOST_DEVICE int num_main() const { return num_ranks * main_slots; }
  LPLB_HOST_DEVICE int num_dynamic() const { return num_ranks * dynamic_slots; }
  LPLB_HOST_DEVICE bool is_general() const { return num_domains > 0; }
  /// Words of a set of ranks. The general form has one number of them.
  LPLB_HOST_DEVICE int rank_words() const {
    return is_general() || num_ranks > 64 ? kGeneralWords : num_ranks > 32 ? 2 : 1;
  }
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
/// [num_logical], the first live rank that has the expert; each at a multiple of 16 bytes. Then, in
/// the general form, what GeneralLayout says.
struct alignas(16) CopyImageHeader {
  std::int32_t num_live;
  std::int32_t replicated;  ///< not 0: an expert is in several live slots
  double speed;             ///< of every rank
  double per_part;          ///< 1 / a million times num_live
};

/// What the image says of a domain, in the general form.
struct alignas(16) CopyDomain {
  std::int32_t num_live;
  std::int32_t replicated;  ///< not 0: an expert is in several live slots of the domain
  std::int32_t is_uniform;  ///< not 0: its ranks have the same speed
  std::int32_t fastest;     ///< the first live rank of the domain with the highest speed
};

/// The same of the group.
struct alignas(16) CopyGroup {
  std::int32_t is_uniform;           ///< not 0: its ranks have the same speed
  std::int32_t domains_are_uniform;  ///< the same for domains as ranks
  std::int32_t fastest, slowest;     ///< the first live ranks that are
  double share_of_fastest;           ///< its speed / the sum of all live ranks'
};

/// What the general form needs in addition; offsets as in CopyLayout. All 0 in the quick form.
struct GeneralLayout {
  // In the image. Speeds of the ranks, then of the domains as ranks.
  int group;    ///< CopyGroup
  int domains;  ///< CopyDomain [num_domains]
  int speed;    ///< double [num_ranks + num_domains]
  int exact;    ///< ExactSpeed [num_ranks + num_domains]; with mantissa 0: dead
  // Not in the image.
  int part;         ///< int [num_logical]: what one domain has of the batch
  int between;      ///< int [num_main]: what each slot brings its domain, by the split between them
  int whole;        ///< int [num_main]: the split over main slots without copies
  int proof;        ///< int [num_ranks]: 1: the rank proves the bound
  int first_proof;  ///< int [num_ranks]: the same of the first bound
  int levels;       ///< solvers::DeviceLevel [num_ranks]
  int capacity;     ///< int [num_ranks]; this and what follows: solvers::SpeedScratch
  int other, share;  ///< int [most_places]
  int order;         ///< uint16 [most_places]
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
  GeneralLayout general;
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

/// Writes the image of a placement into `image`, which keeps its memory. In the quick form all
/// speeds must be equal.
void write_copy_image(const Placement& placement, const CopySizes& sizes, const CopyLayout& layout,
                      std::vector<unsigned char>& image);

}  // namespace lplb::replicas
