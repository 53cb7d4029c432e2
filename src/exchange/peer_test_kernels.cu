// SPDX-License-Identifier: MIT
#include "exchange/peer_test_kernels.h"

#include "core/device.h"

namespace lplb::testing {
namespace {

constexpr int kThreads = 128;

__global__ void prepare_kernel(const RoundLog* log, int rank, unsigned most_ns, std::int32_t* mine,
                               int num_counts) {
  const unsigned long long round = log->round;
  if (most_ns != 0) {
    unsigned long long begin, now;
    asm volatile("mov.u64 %0, %globaltimer;" : "=l"(begin));
    const unsigned wait = static_cast<unsigned>(test_count(round, rank, 8191)) % most_ns;
    do {
      asm volatile("mov.u64 %0, %globaltimer;" : "=l"(now));
    } while (now - begin < wait);
  }
  for (int c = threadIdx.x; c < num_counts; c += kThreads) mine[c] = test_count(round, rank, c);
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
  __syncthreads();
  if (wrong != 0) atomicAdd(&log->wrong, static_cast<unsigned long long>(wrong));
  if (threadIdx.x == 0) log->round = round + 1;
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

}  // namespace lplb::testing
