// SPDX-License-Identifier: MIT
#include "core/launch.cuh"
#include "exchange/peer/round.cuh"
#include "exchange/rail/two_level.h"

namespace lplb::exchange {
namespace {

constexpr int kTwoLevelThreads = 512;

/// Puts the rows in the order of ranks, or fills `all` with -1 if the round is lost. It runs in one
/// block.
__global__ void __launch_bounds__(kTwoLevelThreads)
    two_level_kernel(const __grid_constant__ TwoLevelArgs args) {
  const int row = args.num_domains * args.num_counts;
  const int of_domain = *args.outcome;
  __shared__ int verdict;
  if (threadIdx.x == 0) verdict = of_domain;
  __syncthreads();
  // NOTE: if the domain's round is not complete, the rows mean nothing.
  for (int l = threadIdx.x; of_domain == 0 && l < args.domain_size; l += kTwoLevelThreads) {
    const int outcome = args.rows[l * (row + 1) + row];
    if (outcome != 0) atomicOr(&verdict, outcome);
  }
  __syncthreads();
  const int total = row * args.domain_size;
  for (int i = threadIdx.x; i < total; i += kTwoLevelThreads) {
    const int rank = i / args.num_counts;
    const int domain = rank / args.domain_size;
    const int l = rank - domain * args.domain_size;  // the rank's number in its domain
    const int count = i - rank * args.num_counts;
    args.all[i] = verdict == 0 ? args.rows[l * (row + 1) + domain * args.num_counts + count] : -1;
  }
  if (threadIdx.x != 0) return;
  if (args.all_outcome != nullptr) *args.all_outcome = verdict;
  count_round(*args.control, static_cast<std::uint32_t>(verdict));
}

}  // namespace

void prepare_two_level() { device::load(two_level_kernel); }

void launch_two_level(const TwoLevelArgs& args, StreamHandle stream) {
  device::launch(two_level_kernel, {.num_blocks = 1, .num_threads = kTwoLevelThreads},
                 static_cast<cudaStream_t>(stream), args);
}

}  // namespace lplb::exchange
