// SPDX-License-Identifier: MIT
#include "core/device.h"
#include "exchange/peer/test_kernels.h"

namespace lplb::testing {
namespace {

constexpr int kThreads = 256;

__device__ void wait(const RoundLog* log, int rank, unsigned most_ns) {
  if (most_ns == 0) return;
  unsigned long long begin, now;
  asm volatile("mov.u64 %0, %globaltimer;" : "=l"(begin));
  const unsigned ns = static_cast<unsigned>(test_count(log->round, rank, 8191)) % most_ns;
  do {
    asm volatile("mov.u64 %0, %globaltimer;" : "=l"(now));
  } while (now - begin < ns);
}

__global__ void prepare_kernel(const RoundLog* log, int rank, unsigned most_ns, std::int32_t* mine,
                               int num_counts) {
  wait(log, rank, most_ns);
  for (int c = threadIdx.x; c < num_counts; c += kThreads)
    mine[c] = test_count(log->round, rank, c);
}

__global__ void delay_kernel(const RoundLog* log, int rank, unsigned most_ns) {
  wait(log, rank, most_ns);
}

/// Ends a round. The grid has one block.
__device__ void end_round(RoundLog* log, int wrong) {
  if (wrong != 0) atomicAdd(&log->wrong, static_cast<unsigned long long>(wrong));
  __syncthreads();
  if (threadIdx.x == 0) ++log->round;
}

__global__ void compare_kernel(RoundLog* log, const std::int32_t* got, const std::int32_t* want,
                               int size) {
  int wrong = 0;
  for (int i = threadIdx.x; i < size; i += kThreads) wrong += got[i] != want[i] ? 1 : 0;
  end_round(log, wrong);
}

__global__ void verify_kernel(RoundLog* log, const std::int32_t* all, const std::int32_t* outcome,
                              int num_ranks, int num_counts) {
  const unsigned long long round = log->round;
  int wrong = 0;
  if (*outcome == 0) {
    for (int i = threadIdx.x; i < num_ranks * num_counts; i += kThreads) {
      if (all[i] != test_count(round, i / num_counts, i % num_counts)) ++wrong;
    }
  }
  end_round(log, wrong);
}

}  // namespace

void launch_prepare(const RoundLog* log, int rank, unsigned most_ns, std::int32_t* mine,
                    int num_counts, cudaStream_t stream) {
  prepare_kernel<<<1, kThreads, 0, stream>>>(log, rank, most_ns, mine, num_counts);
  LPLB_CUDA_CHECK(cudaGetLastError());
}

void launch_verify(RoundLog* log, const std::int32_t* all, const std::int32_t* outcome,
                   int num_ranks, int num_counts, cudaStream_t stream) {
  verify_kernel<<<1, kThreads, 0, stream>>>(log, all, outcome, num_ranks, num_counts);
  LPLB_CUDA_CHECK(cudaGetLastError());
}

void launch_delay(const RoundLog* log, int rank, unsigned most_ns, cudaStream_t stream) {
  delay_kernel<<<1, 1, 0, stream>>>(log, rank, most_ns);
  LPLB_CUDA_CHECK(cudaGetLastError());
}

void launch_compare(RoundLog* log, const std::int32_t* got, const std::int32_t* want, int size,
                    cudaStream_t stream) {
  compare_kernel<<<1, kThreads, 0, stream>>>(log, got, want, size);
  LPLB_CUDA_CHECK(cudaGetLastError());
}

}  // namespace lplb::testing
