// SPDX-License-Identifier: MIT
#include "core/expert_id.h"
#include "core/launch.cuh"
#include "core/slices.cuh"
#include "count/device_counter.h"
#include "count/history_rules.h"
#include "lplb/exchange.h"

// Every block counts a part of the entries, and adds what it counted to the totals. The block that
// comes last finds the complete totals, and writes the results.
namespace lplb::count {
namespace {

__device__ void count_part(const CounterArgs& a, int* histogram) {
  const int valid =
      a.num_valid_tokens != nullptr ? min(max(*a.num_valid_tokens, 0), a.num_tokens) : a.num_tokens;
  const long long end = static_cast<long long>(valid) * a.num_topk;
  const long long stride = static_cast<long long>(gridDim.x) * kCounterThreads;
  long long i = static_cast<long long>(blockIdx.x) * kCounterThreads + threadIdx.x;
  for (; i < end; i += stride) {
    const int id = device::load_id(a.topk_idx, a.id_bytes, static_cast<int>(i));
    if (is_expert(id, a.num_logical)) atomicAdd(&histogram[id], 1);
  }
}

/// Writes the counts, adds up the packed ones, and adds to the history. Leaves zeros in the totals
/// for the next batch.
__device__ void write(const CounterArgs& a, int* packed, std::int32_t* slot) {
  for (int e = threadIdx.x; e < a.num_logical; e += kCounterThreads) {
    const int count = __ldcg(&a.totals[e]);
    a.totals[e] = 0;
    if (a.counts != nullptr) a.counts[e] = count;
    if (count != 0) atomicAdd(&packed[a.columns[e]], count);
    if (a.remember) {
      a.load[e] = remember(a.load[e], a.decay, count, slot == nullptr ? nullptr : slot + e);
    }
  }
}

__global__ void __launch_bounds__(kCounterThreads)
    counter_kernel(const __grid_constant__ CounterArgs args) {
  __shared__ int histogram[kMaxPhysical];
  __shared__ int packed[kMaxPhysical + kMaxRanks];
  __shared__ bool is_last;
  for (int e = threadIdx.x; e < args.num_logical; e += kCounterThreads) histogram[e] = 0;
  __syncthreads();
  count_part(args, histogram);
  __syncthreads();
  for (int e = threadIdx.x; e < args.num_logical; e += kCounterThreads) {
    if (histogram[e] != 0) atomicAdd(&args.totals[e], histogram[e]);
  }
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) is_last = atomicAdd(&args.state->finished, 1u) + 1 == gridDim.x;
  __syncthreads();
  if (!is_last) return;

  __threadfence();
  const int num_columns = args.state->num_columns;
  for (int c = threadIdx.x; c < num_columns; c += kCounterThreads) packed[c] = 0;
  __syncthreads();
  std::int32_t* slot = nullptr;
  if (args.window > 0) {
    slot = args.ring + args.state->num_batches % args.window * args.num_logical;
  }
  write(args, packed, slot);
  __syncthreads();
  if (args.packed != nullptr) {
    for (int c = threadIdx.x; c < num_columns; c += kCounterThreads) args.packed[c] = packed[c];
  }
  if (threadIdx.x == 0) {
    args.state->finished = 0;
    if (args.remember) ++args.state->num_batches;
  }
}

}  // namespace

void launch_counter(const CounterArgs& args, int num_blocks, cudaStream_t stream) {
  device::launch(counter_kernel, {.num_blocks = num_blocks, .num_threads = kCounterThreads}, stream,
                 args);
}

}  // namespace lplb::count
