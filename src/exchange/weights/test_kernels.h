// SPDX-License-Identifier: MIT
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

// Weights whose words tell which expert, tensor and version they belong to.
namespace lplb::testing {

/// Counters in device memory: slots that were looked at, and what was not as expected.
struct CopyLog {
  unsigned long long slots, wrong_words, not_held, incomplete;
};

/// Word `i` of a tensor of an expert.
__host__ __device__ inline std::uint32_t weight_word(int expert, int tensor, int version,
                                                     std::size_t i) {
  unsigned long long x = (static_cast<unsigned long long>(version) << 40) ^
                         (static_cast<unsigned long long>(expert) << 28) ^
                         (static_cast<unsigned long long>(tensor) << 24) ^ i;
  x = (x ^ (x >> 31)) * 0x9E3779B97F4A7C15ull;
  return static_cast<std::uint32_t>(x >> 32);
}

/// Writes words [0, num_words) of a tensor.
void launch_fill(std::uint32_t* to, std::size_t num_words, int expert, int tensor, int version,
                 cudaStream_t stream);

/// Checks one dynamic slot: if `*expert` >= 0, it is held and its words are those of
/// versions[*expert]. If the call was not complete (*outcome != 0), only what is held is checked.
void launch_check(CopyLog* log, const std::uint32_t* slot, std::size_t num_words,
                  const std::int32_t* expert, const std::int32_t* is_held,
                  const std::int32_t* outcome, const std::int32_t* versions, int tensor,
                  cudaStream_t stream);

}  // namespace lplb::testing
