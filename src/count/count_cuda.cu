// SPDX-License-Identifier: MIT
#include <algorithm>
#include <vector>

#include "core/expert_id.h"
#include "core/launch.cuh"
#include "core/slices.cuh"
#include "count/count_cuda.h"

namespace lplb::count {
namespace {

using device::kWarpSize;

constexpr int kThreads = 512;
constexpr int kMaxBlocks = 64;

/// The two counters that follow those of the experts.
enum Total { kDropped, kOutOfRange, kNumTotals };

template <class Id>
struct CountArgs {
  const Id* topk_idx;
  long long num_entries;
  int num_logical;
  unsigned long long* load;  ///< [num_logical + kNumTotals]: zero before the launch
};

/// Lanes of a warp with the same id add once, to counters in the block's shared memory. At its end
/// the block adds its counters to `load`.
template <class Id>
__global__ void __launch_bounds__(kThreads) count_kernel(const CountArgs<Id> args) {
  extern __shared__ int counters[];  // [num_logical + kNumTotals]
  const int num_counters = args.num_logical + kNumTotals;
  for (int i = threadIdx.x; i < num_counters; i += kThreads) counters[i] = 0;
  __syncthreads();

  // NOTE: the loop runs over whole slices, so that all lanes of a warp stay in it: they exchange
  // ids.
  const long long num_slices = (args.num_entries + kWarpSize - 1) / kWarpSize;
  const long long stride = static_cast<long long>(gridDim.x) * (kThreads / kWarpSize);
  const long long first = static_cast<long long>(blockIdx.x) * (kThreads / kWarpSize);
  for (long long slice = first + threadIdx.x / kWarpSize; slice < num_slices; slice += stride) {
    const long long i = slice * kWarpSize + device::lane_id();
    int key = -1;
    if (i < args.num_entries) {
      const int id = device::narrow_id(args.topk_idx[i]);
      key = is_expert(id, args.num_logical)
                ? id
                : args.num_logical + (id == -1 ? kDropped : kOutOfRange);
    }
    const device::Peers peers(key);
    if (key >= 0 && peers.is_first()) atomicAdd(&counters[key], peers.count());
  }
  __syncthreads();

  for (int i = threadIdx.x; i < num_counters; i += kThreads) {
    if (counters[i] != 0) atomicAdd(&args.load[i], static_cast<unsigned long long>(counters[i]));
  }
}

template <class Id>
CountStatus count(std::span<const Id> topk_idx, std::span<Load> load) {
  device::require();
  const std::size_t num_counters = load.size() + kNumTotals;
  device::Array<Id> entries(topk_idx.size());
  device::Array<unsigned long long> sums(num_counters);
  LPLB_CUDA_CHECK(cudaMemset(sums.get(), 0, num_counters * sizeof(unsigned long long)));
  if (!topk_idx.empty()) {
    LPLB_CUDA_CHECK(
        cudaMemcpy(entries.get(), topk_idx.data(), topk_idx.size_bytes(), cudaMemcpyHostToDevice));
    const CountArgs<Id> args{entries.get(), static_cast<long long>(topk_idx.size()),
                             static_cast<int>(load.size()), sums.get()};
    const int num_blocks =
        std::min(kMaxBlocks, device::div_up(static_cast<int>(topk_idx.size()), kThreads));
    device::launch(count_kernel<Id>, {num_blocks, kThreads, num_counters * sizeof(int)}, nullptr,
                   args);
  }
  std::vector<unsigned long long> found(num_counters);
  LPLB_CUDA_CHECK(cudaMemcpy(found.data(), sums.get(), num_counters * sizeof(unsigned long long),
                             cudaMemcpyDeviceToHost));

  CountStatus status;
  for (std::size_t e = 0; e < load.size(); ++e) {
    load[e] = static_cast<Load>(found[e]);
    status.counted += load[e];
  }
  status.dropped = static_cast<std::int64_t>(found[load.size() + kDropped]);
  status.out_of_range = static_cast<std::int64_t>(found[load.size() + kOutOfRange]);
  return status;
}

}  // namespace

CountStatus count_cuda(std::span<const std::int32_t> topk_idx, std::span<Load> load) {
  return count(topk_idx, load);
}

CountStatus count_cuda(std::span<const std::int64_t> topk_idx, std::span<Load> load) {
  return count(topk_idx, load);
}

}  // namespace lplb::count
