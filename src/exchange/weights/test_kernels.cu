// SPDX-License-Identifier: MIT
#include "core/device.h"
#include "exchange/weights/test_kernels.h"

namespace lplb::testing {
namespace {

constexpr int kThreads = 256;

__global__ void fill_kernel(std::uint32_t* to, std::size_t num_words, int expert, int tensor,
                            int version) {
  for (std::size_t i = threadIdx.x; i < num_words; i += kThreads) {
    to[i] = weight_word(expert, tensor, version, i);
  }
}

__global__ void check_kernel(CopyLog* log, const std::uint32_t* slot, std::size_t num_words,
                             const std::int32_t* expert, const std::int32_t* is_held,
                             const std::int32_t* outcome, const std::int32_t* versions,
                             int tensor) {
  if (threadIdx.x == 0 && tensor == 0) {
    atomicAdd(&log->slots, 1ull);
    if (*outcome != 0) atomicAdd(&log->incomplete, 1ull);
    if (*outcome == 0 && (*is_held != 0) != (*expert >= 0)) atomicAdd(&log->not_held, 1ull);
  }
  if (*expert < 0 || *is_held == 0) return;
  unsigned wrong = 0;
  for (std::size_t i = threadIdx.x; i < num_words; i += kThreads) {
    wrong += slot[i] != weight_word(*expert, tensor, versions[*expert], i) ? 1 : 0;
  }
  if (wrong != 0) atomicAdd(&log->wrong_words, static_cast<unsigned long long>(wrong));
}

}  // namespace

void launch_fill(std::uint32_t* to, std::size_t num_words, int expert, int tensor, int version,
                 cudaStream_t stream) {
  fill_kernel<<<1, kThreads, 0, stream>>>(to, num_words, expert, tensor, version);
  LPLB_CUDA_CHECK(cudaGetLastError());
}

void launch_check(CopyLog* log, const std::uint32_t* slot, std::size_t num_words,
                  const std::int32_t* expert, const std::int32_t* is_held,
                  const std::int32_t* outcome, const std::int32_t* versions, int tensor,
                  cudaStream_t stream) {
  check_kernel<<<1, kThreads, 0, stream>>>(log, slot, num_words, expert, is_held, outcome, versions,
                                           tensor);
  LPLB_CUDA_CHECK(cudaGetLastError());
}

}  // namespace lplb::testing
