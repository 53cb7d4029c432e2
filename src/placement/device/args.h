// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

namespace lplb::placement {

inline constexpr int kSearchThreads = 512;  ///< of a block, at most
inline constexpr int kSearchRanks = 128;    ///< at most
inline constexpr int kSearchSlots = 2048;   ///< at most, of all ranks
inline constexpr int kSearchCuts = 64;      ///< as WindowJudge keeps

/// What all layers of a call have in common. `num_batches` is that of the layer with most.
struct SearchSizes {
  int num_ranks, slots, num_logical, num_batches;

  int num_slots() const { return num_ranks * slots; }
  /// Words of a set of ranks: 2 or 4.
  int rank_words() const { return num_ranks <= 64 ? 2 : 4; }
  /// Batches in a table, so that four are read at once.
  int padded_batches() const { return (num_batches + 3) / 4 * 4; }
};

/// One layer's search; its arrays follow in the image.
struct alignas(16) SearchJob {
  std::int64_t max_trials, max_moves, least_gain, move_gain, home_gain;  ///< SearchLimits
  std::int64_t moves_of_start;
  int num_batches;
  int num_free, num_homes;  ///< the slots in `lists`: those that may get other experts, then homes
};

/// What a search led to; the experts of its slots follow, int32 [num_slots].
struct alignas(16) SearchResult {
  std::int64_t value_of_start, value, moves, trials;
};

/// Where things are in the image of a layer, in bytes. All of it begins at multiples of 16.
struct SearchImage {
  int weight;   ///< int64 [num_batches]
  int load;     ///< int32 [num_batches, num_logical]
  int experts;  ///< int32 [num_slots]
  int lists;    ///< int32 [num_free + num_homes]
  int held;     ///< uint32 [num_logical, rank_words]: the ranks that had an expert
  int bytes;
  int result_bytes;
};

/// Where things are in the memory of a block, in bytes.
struct SearchMemory {
  // As WindowJudge has them; what is [2, ...] are the flows in force and those of a trial.
  int weight;     ///< int64 [padded]
  int want;       ///< int32 [num_batches, num_logical]
  int take;       ///< int32 [2, num_batches, num_slots]
  int load;       ///< int32 [2, num_batches, num_ranks]
  int level;      ///< int32 [2, padded]
  int member;     ///< RankSet [kSearchCuts]
  int inverse;    ///< double [kSearchCuts]
  int inside;     ///< int32 [kSearchCuts, padded]
  int floor;      ///< int32 [kSearchCuts, padded]: the level that a cut proves
  int highest;    ///< int32 [padded]
  int ranks;      ///< RankSet [num_logical]: the ranks of an expert
  int held;       ///< RankSet [num_logical]
  int expert;     ///< int16 [num_slots]
  int any;        ///< int16 [num_logical]
  int hop;        ///< uint32 [num_slots]: the next slot of the expert, and its rank
  int num_found;  ///< int32 [padded]: cuts of a batch in the trial
  int reached;    ///< int32 [padded]: the level that a batch of it has come to
  int votes;      ///< SearchVote [2, warps]
  int lower;      ///< int32 [warps, padded]
  int queue;      ///< uint8 [warps, num_ranks]
  int step;       ///< uint32 [warps, num_ranks]: how a path comes to a rank
  int scalars;    ///< SearchScalars
  int bytes;
};

inline constexpr int kNoBatch = 0x7FFFFFFF;

/// What a warp thinks of its candidate.
struct alignas(16) SearchVote {
  long long sum;  ///< the bound
  int passes;     ///< not 0: it is to be tried
  int stops;      ///< not 0: time is over
};

struct alignas(16) SearchScalars {
  unsigned num_raw, num_listed;
  int failed;  ///< the first batch at which a trial is known to be too high; kNoBatch: none
};

/// A change that may help: what HomesSearch::Candidate says, in the order of its comparison.
struct alignas(16) SearchCandidate {
  long long bound;
  unsigned long long edits;  ///< slot, expert, slot and expert, 12 bits each; all ones: no edit
};

/// The arguments of the kernel. Each block searches layer after layer: block i the layers i, i +
/// num_blocks and so on.
struct SearchArgs {
  SearchSizes sizes;
  SearchImage image_at;
  SearchMemory at;
  int num_jobs;
  const unsigned char* image;  ///< [num_jobs, image_at.bytes]
  unsigned char* results;      ///< [num_jobs, image_at.result_bytes]
  // Scratch memory of each block.
  SearchCandidate *raw, *list;  ///< [num_blocks, most_candidates]
  std::int64_t most_candidates;
  /// The cuts that a trial finds: a set of ranks, and the level that it proves. [num_blocks,
  /// num_batches, num_ranks * num_ranks, rank_words + 1]
  unsigned* found;
  /// Nanoseconds that a block has for all its layers; < 0: there is no limit.
  std::int64_t nanoseconds;
};

}  // namespace lplb::placement
