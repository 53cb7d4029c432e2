// SPDX-License-Identifier: MIT
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

// What a virtual rank does before and after a round: it waits, makes counts, and checks counts.
namespace lplb::testing {

/// In device memory. `round` counts rounds from 0; `wrong` counts values that were not as expected.
struct RoundLog {
  unsigned long long round;
  unsigned long long wrong;
};

/// The count of a column in a round. Its value differs between rounds and between ranks.
__host__ __device__ inline std::int32_t test_count(unsigned long long round, int rank, int column) {
  unsigned long long x = (round * 1024 + static_cast<unsigned>(rank)) * 8192 + column;
  x = (x ^ (x >> 31)) * 0x9E3779B97F4A7C15ull;
  return static_cast<std::int32_t>((x >> 33) & 0x7FFFFFFF);
}

/// Waits a random time of up to `most_ns`, which differs in each round; then mine[c] =
/// test_count().
void launch_prepare(const RoundLog* log, int rank, unsigned most_ns, std::int32_t* mine,
                    int num_counts, cudaStream_t stream);

/// Checks that all[g, c] is test_count() of this round, if *outcome is 0. Ends the round.
void launch_verify(RoundLog* log, const std::int32_t* all, const std::int32_t* outcome,
                   int num_ranks, int num_counts, cudaStream_t stream);

/// Waits a random time as launch_prepare() does.
void launch_delay(const RoundLog* log, int rank, unsigned most_ns, cudaStream_t stream);

/// Checks that got[i] is want[i]. Ends the round.
void launch_compare(RoundLog* log, const std::int32_t* got, const std::int32_t* want, int size,
                    cudaStream_t stream);

}  // namespace lplb::testing
