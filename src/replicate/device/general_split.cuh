// SPDX-License-Identifier: MIT
#pragma once

#include "replicate/device/exact_split.cuh"
#include "solve/device/speed_bound.cuh"

// The exact splits of the general form: over the ranks of a domain or of the group, or over domains
// as ranks.
namespace lplb::replicas {

/// The general form: ranks, or domains as ranks, of any speeds.
struct SplitRanks {
  static constexpr bool kAreEqual = false;
  using Level = solvers::DeviceLevel;

  solvers::RankSpeeds speeds;
  solvers::SpeedScratch scratch;
  int total;  ///< the tokens of the batch
  int first;  ///< is added to the rank of the result

  __device__ bool is_alive(int rank) const { return speeds.is_alive(rank); }

  /// Solves, and finds the largest load. All threads of the block call it. Ends in a barrier.
  __device__ Level solve(const unsigned char* base, const solvers::DeviceTablesHeader& header,
                         const solvers::BlockState& state, int most_steps) const {
    const auto thread = static_cast<int>(threadIdx.x);
    if (thread < solvers::kMaskThreads) {
      const solvers::BlockTables tables(base, header);
      solvers::BlockFlow(tables, state, solvers::BlockTeam(thread, solvers::kMaskThreads),
                         solvers::SpeedBound(speeds, scratch, total))
          .run(most_steps);
    }
    __syncthreads();
    const Level max =
        speeds.highest(0, header.num_ranks, [&](int g) { return state.rank_load[g]; });
    __syncthreads();
    return {max.tokens, max.rank + first};
  }
};

/// Which ranks a split in the general form has: those of a domain, by its number, or these.
inline constexpr int kGroup = -1;
inline constexpr int kDomainsAsRanks = -2;

/// The memory of such a split.
__device__ inline CopyMemory memory_of_split(const CopyArgs& args, unsigned char* memory,
                                             int which) {
  if (which >= 0) return DomainRanks(args, memory, which, 0).memory(args, memory);
  const GeneralMemory general(args, memory);
  CopyMemory m = EqualRanks::memory(args, memory);
  if (which == kGroup) return m;
  m.sizes.num_ranks = args.sizes.num_domains;
  m.sizes.main_slots *= args.sizes.num_ranks / args.sizes.num_domains;
  m.sizes.dynamic_slots = 0;
  m.num_live = 0;
  for (int d = 0; d < args.sizes.num_domains; ++d) m.num_live += general.merged.is_alive(d) ? 1 : 0;
  return m;
}

/// Runs the exact split of `total` tokens over main slots, and over the copies of the plan if
/// `with_copies`, in the general form. Returns the largest load.
__device__ inline __noinline__ solvers::DeviceLevel run_general_split(const CopyArgs& args,
                                                                      unsigned char* memory,
                                                                      int which, int total,
                                                                      bool with_copies) {
  const GeneralMemory general(args, memory);
  const CopyMemory m = memory_of_split(args, memory, which);
  const int first = max(which, 0) * m.sizes.num_ranks;
  const solvers::RankSpeeds speeds =
      which == kGroup ? general.ranks
      : which == kDomainsAsRanks
          ? general.merged
          : general.ranks.from(first, general.domains[which].is_uniform != 0);
  ExactSplit<kGeneralWords, SplitRanks> split(m, args.tables,
                                              {speeds, general.scratch, total, first});
  split.find_holders(with_copies);
  return split.run(args.most_steps);
}

}  // namespace lplb::replicas
