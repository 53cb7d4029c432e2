// SPDX-License-Identifier: MIT
#include <algorithm>
#include <vector>

#include "core/expert_id.h"
#include "core/launch.cuh"
#include "core/slices.cuh"
#include "map/map_cuda.h"
#include "map/rules.h"

// The map as three kernels:
// 1. Each warp counts the replicated experts among its entries.
// 2. For each replicated expert, prefix sums over the warps say at which number the tokens of each
//    warp begin, and one thread writes the segments.
// 3. Each warp numbers its entries again, and finds the segment of each number.
namespace lplb::map {
namespace {

using device::kWarpSize;

constexpr int kThreads = 256;
constexpr int kWarpsPerBlock = kThreads / kWarpSize;
constexpr int kMaxBlocks = 16;

/// All pointers are to device memory. K is the number of replicated experts, which are ascending.
template <class Id>
struct MapArgs {
  const Id* topk_idx;
  Id* physical_idx;
  int num_entries;
  int num_warps;  ///< warps of the grid that walks over the entries
  int num_logical;
  int num_replicated;        ///< K
  const int* experts;        ///< [num_logical]: k, or -1 - physical if it has one replica
  const int* logical;        ///< [K]
  const int* replica_begin;  ///< [K + 1]: index into replicas and segments
  const Index* replicas;     ///< their physical ids
  const char* alive;         ///< [num_ranks]
  const Load* counts;        ///< [num_ranks, num_logical]; null: only the split is known
  const Load* quota;         ///< [num_physical]
  Segment* segments;         ///< room for one for each replica
  int* numbers;              ///< [num_warps, K]
  int rank;
  int num_ranks;
  int ranks_per_node;
  int slots_per_rank;
};

/// Calls body(i, is_entry, expert) for the slices of this warp, on all lanes: is_entry is false
/// beyond the end. `expert` is args.experts[id], or INT32_MIN if the id is no expert.
template <class Id, class Body>
__device__ void for_entries(const MapArgs<Id>& args, int warp, Body body) {
  const int slices = device::slices_per_warp(args.num_entries, args.num_warps);
  for (int slice = 0; slice < slices; ++slice) {
    const long long i =
        (static_cast<long long>(warp) * slices + slice) * kWarpSize + device::lane_id();
    const bool is_entry = i < args.num_entries;
    const int id = is_entry ? device::narrow_id(args.topk_idx[i]) : -1;
    const int expert = is_expert(id, args.num_logical) ? args.experts[id] : INT32_MIN;
    body(i, is_entry, expert);
  }
}

__device__ inline int warp_of_grid() {
  return static_cast<int>(blockIdx.x) * kWarpsPerBlock + static_cast<int>(threadIdx.x) / kWarpSize;
}

/// Pass 1: numbers[warp, k] = entries of k in the warp's slices. They are zero before.
template <class Id>
__global__ void __launch_bounds__(kThreads) number_kernel(const MapArgs<Id> args) {
  const int warp = warp_of_grid();
  int* const mine = args.numbers + static_cast<long long>(warp) * args.num_replicated;
  for_entries(args, warp, [&](long long, bool, int expert) {
    const int key = max(expert, -1);
    device::take_number(device::Peers(key), key, mine);
  });
}

/// Pass 2: numbers[warp, k] = entries of k before the warp's slices. Writes the segments of k.
template <class Id>
__global__ void __launch_bounds__(kThreads) segment_kernel(const MapArgs<Id> args) {
  const int k = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
  if (k >= args.num_replicated) return;
  int own = 0;
  for (int warp = 0; warp < args.num_warps; ++warp) {
    int& number = args.numbers[static_cast<long long>(warp) * args.num_replicated + k];
    const int here = number;
    number = own;
    own += here;
  }
  if (own == 0) return;
  const int begin = args.replica_begin[k];
  const int count = args.replica_begin[k + 1] - begin;
  const int logical = args.logical[k];
  const Index* const replicas = args.replicas + begin;
  Segment* const segments = args.segments + begin;
  if (args.counts != nullptr) {
    const ExpertBatch batch{
        args.counts + logical, args.num_logical,    args.quota,         replicas, count,
        args.num_ranks,        args.ranks_per_node, args.slots_per_rank};
    assign_exactly(batch, args.rank, segments);
  } else {
    divide_by_split(
        replicas, count, [&](Index i) { return args.quota[replicas[i]]; }, args.alive,
        args.slots_per_rank, Load{own}, args.rank, logical, segments);
  }
}

/// Pass 3: maps the entries.
template <class Id>
__global__ void __launch_bounds__(kThreads) map_kernel(const MapArgs<Id> args) {
  const int warp = warp_of_grid();
  int* const mine = args.numbers + static_cast<long long>(warp) * args.num_replicated;
  for_entries(args, warp, [&](long long i, bool is_entry, int expert) {
    const int key = max(expert, -1);
    const int number = device::take_number(device::Peers(key), key, mine);
    if (!is_entry) return;
    int physical = expert == INT32_MIN ? -1 : -1 - expert;
    if (key >= 0) {
      physical = find_physical(args.segments + args.replica_begin[key], Load{number});
    }
    args.physical_idx[i] = static_cast<Id>(physical);
  });
}

template <class T>
device::Array<T> upload(std::span<const T> values) {
  device::Array<T> array(std::max<std::size_t>(1, values.size()));
  if (!values.empty()) {
    LPLB_CUDA_CHECK(
        cudaMemcpy(array.get(), values.data(), values.size_bytes(), cudaMemcpyHostToDevice));
  }
  return array;
}

template <class T>
device::Array<T> upload(const std::vector<T>& values) {
  return upload(std::span<const T>(values));
}

/// The lists of a placement in MapArgs.
struct Lists {
  std::vector<int> experts, logical, replica_begin{0};
  std::vector<Index> replicas;
  std::vector<char> alive;

  explicit Lists(const Placement& p) {
    for (Index e = 0; e < p.num_logical_experts; ++e) {
      const std::span<const Index> own = p.replicas(e);
      experts.push_back(own.size() > 1 ? static_cast<int>(logical.size()) : -1 - own[0]);
      if (own.size() == 1) continue;
      logical.push_back(e);
      replicas.insert(replicas.end(), own.begin(), own.end());
      replica_begin.push_back(static_cast<int>(replicas.size()));
    }
    for (Index g = 0; g < p.num_ranks; ++g) alive.push_back(p.alive(g) ? 1 : 0);
  }
};

template <class Id>
void map_on_device(const Placement& placement, std::span<const Load> counts,
                   std::span<const Load> physical_load, Index rank, std::span<const Id> topk_idx,
                   std::span<Id> physical_idx) {
  device::require();
  if (topk_idx.empty()) return;
  const Lists lists(placement);
  const auto num_entries = static_cast<int>(topk_idx.size());
  const int num_blocks = std::min(kMaxBlocks, device::div_up(num_entries, kThreads));
  const int num_warps = num_blocks * kWarpsPerBlock;
  const std::size_t num_numbers = std::size_t{1} * num_warps * lists.logical.size();

  device::Array<Id> entries = upload(topk_idx);
  device::Array<int> experts = upload(lists.experts);
  device::Array<int> logical = upload(lists.logical);
  device::Array<int> replica_begin = upload(lists.replica_begin);
  device::Array<Index> replicas = upload(lists.replicas);
  device::Array<char> alive = upload(lists.alive);
  device::Array<Load> group = upload(counts);
  device::Array<Load> quota = upload(physical_load);
  device::Array<Segment> segments(lists.replicas.size() + 1);
  device::Array<int> numbers(num_numbers + 1);
  LPLB_CUDA_CHECK(cudaMemset(numbers.get(), 0, num_numbers * sizeof(int)));

  const MapArgs<Id> args{.topk_idx = entries.get(),
                         .physical_idx = entries.get(),
                         .num_entries = num_entries,
                         .num_warps = num_warps,
                         .num_logical = placement.num_logical_experts,
                         .num_replicated = static_cast<int>(lists.logical.size()),
                         .experts = experts.get(),
                         .logical = logical.get(),
                         .replica_begin = replica_begin.get(),
                         .replicas = replicas.get(),
                         .alive = alive.get(),
                         .counts = counts.empty() ? nullptr : group.get(),
                         .quota = quota.get(),
                         .segments = segments.get(),
                         .numbers = numbers.get(),
                         .rank = rank,
                         .num_ranks = placement.num_ranks,
                         .ranks_per_node = placement.num_ranks / placement.num_nodes,
                         .slots_per_rank = placement.slots_per_rank()};
  if (args.num_replicated > 0) {
    device::launch(number_kernel<Id>, {num_blocks, kThreads}, nullptr, args);
    device::launch(segment_kernel<Id>, {device::div_up(args.num_replicated, kThreads), kThreads},
                   nullptr, args);
  }
  device::launch(map_kernel<Id>, {num_blocks, kThreads}, nullptr, args);
  LPLB_CUDA_CHECK(cudaMemcpy(physical_idx.data(), entries.get(), physical_idx.size_bytes(),
                             cudaMemcpyDeviceToHost));
}

}  // namespace

void map_cuda(const Placement& placement, std::span<const Load> counts,
              std::span<const Load> physical_load, Index rank,
              std::span<const std::int32_t> topk_idx, std::span<std::int32_t> physical_idx) {
  map_on_device(placement, counts, physical_load, rank, topk_idx, physical_idx);
}

void map_cuda(const Placement& placement, std::span<const Load> counts,
              std::span<const Load> physical_load, Index rank,
              std::span<const std::int64_t> topk_idx, std::span<std::int64_t> physical_idx) {
  map_on_device(placement, counts, physical_load, rank, topk_idx, physical_idx);
}

}  // namespace lplb::map
