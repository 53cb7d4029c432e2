// SPDX-License-Identifier: MIT
#include <algorithm>

#include "planner_kernels.cuh"

namespace lplb {
namespace {

/// The first of three kernels: each block's totals.
__global__ void __launch_bounds__(kPlanThreads, 1)
    count_kernel(const __grid_constant__ PlanArgs args) {
  extern __shared__ uint4 memory[];
  device::let_next_kernel_start();
  PlanBlock plan(args, memory);
  plan.begin(true);
  plan.open_image(false);
  plan.count();
  plan.put_totals(args.block_totals + blockIdx.x * (args.layout.max_columns + 1));
}

/// Packed counts of this rank, from the blocks' totals.
__global__ void __launch_bounds__(kPlanThreads)
    pack_kernel(const __grid_constant__ PlanPackArgs args) {
  const int num_columns = reinterpret_cast<const PlanHeader*>(args.plan.image)->num_columns;
  const int stride = args.plan.layout.max_columns + 1;
  for (int c = threadIdx.x; c < num_columns; c += kPlanThreads) {
    int sum = 0;
    for (int block = 0; block < args.plan.num_blocks; ++block) {
      sum += args.plan.block_totals[block * stride + c];
    }
    args.packed[c] = sum;
  }
}

/// The third: counts once more, while the second solves, and maps.
__global__ void __launch_bounds__(kPlanThreads, 1)
    map_kernel(const __grid_constant__ PlanArgs args) {
  extern __shared__ uint4 memory[];
  PlanBlock plan(args, memory);
  plan.begin(true);
  plan.open_image(false);
  plan.count();
  device::wait_for_kernel();
  fetch_totals(plan, args, static_cast<int>(gridDim.x));
  for (int i = threadIdx.x; i < plan.header().num_replicas; i += kPlanThreads) {
    plan.segments()[i] = args.segments[i];
  }
  plan.number_warps(static_cast<int>(threadIdx.x), kPlanThreads);
  __syncthreads();
  plan.make_heads(static_cast<int>(gridDim.x));
  plan.map();
}

constexpr PlanKernels kExactKernels = make_plan_kernels<false>();

const PlanKernels& kernels_of(bool is_stale) {
  return is_stale ? stale_plan_kernels() : kExactKernels;
}
const PlanKernels& kernels_of(const PlanArgs& args) { return kernels_of(args.last != nullptr); }

/// Whether the exchange is within the kernel.
int exchanges(const PlanArgs& args) { return args.peers.own != nullptr ? 1 : 0; }

int attribute(cudaDeviceAttr which) {
  int device = 0;
  int value = 0;
  LPLB_CUDA_CHECK(cudaGetDevice(&device));
  LPLB_CUDA_CHECK(cudaDeviceGetAttribute(&value, which, device));
  return value;
}

}  // namespace

void choose_form(const solvers::DeviceTablesHeader& tables, Solver solver, PlanHeader* header) {
  const solvers::Form form = solvers::choose_form(tables, solver);
  header->solver_form = static_cast<std::int32_t>(form);
  // NOTE: others are left for PlanBlock::sum_ranks().
  static_assert(kPlanThreads / 2 >= solvers::kMaskThreads);
  header->solver_threads = std::min(solvers::team_threads(tables, form), kPlanThreads / 2);
}

std::size_t max_state_bytes(const PlanLimits& limits) {
  solvers::DeviceTablesHeader worst{};  // num_live 0: with what only the cut solver needs
  worst.num_ranks = limits.num_ranks;
  worst.num_replicated = limits.max_replicated();
  worst.num_places = limits.max_replicas();
  worst.mask_words = solvers::mask_words(limits.num_ranks);
  return static_cast<std::size_t>(solvers::BlockState::bytes(worst));
}

std::int64_t most_plan_bytes() {
  // Less what the system and the kernels' own variables take.
  return attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin) - 2048;
}

namespace {

void allow(PlanKernel kernel, std::size_t shared_bytes) {
  cudaFuncAttributes now{};
  LPLB_CUDA_CHECK(cudaFuncGetAttributes(&now, reinterpret_cast<const void*>(kernel)));
  if (now.maxDynamicSharedSizeBytes >= static_cast<int>(shared_bytes)) return;
  LPLB_CUDA_CHECK(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                       cudaFuncAttributeMaxDynamicSharedMemorySize,
                                       static_cast<int>(shared_bytes)));
}

}  // namespace

void prepare_plan(std::size_t shared_bytes, bool is_stale) {
  const PlanKernels& kernels = kernels_of(is_stale);
  for (int cut = 0; cut < 2; ++cut) {
    for (int exchange = 0; exchange < 2; ++exchange) {
      allow(kernels.plan[cut][exchange], shared_bytes);
      allow(kernels.solve[cut][exchange], shared_bytes);
    }
  }
  allow(count_kernel, shared_bytes);
  allow(map_kernel, shared_bytes);
}

bool can_start_early() { return attribute(cudaDevAttrComputeCapabilityMajor) >= 9; }

bool has_clusters(int num_blocks, std::size_t shared_bytes, bool is_stale) {
  if (num_blocks == 1) return true;
  if (attribute(cudaDevAttrClusterLaunch) == 0) return false;
  const device::Launch launch({.num_blocks = num_blocks,
                               .num_threads = kPlanThreads,
                               .shared_bytes = shared_bytes,
                               .cluster_blocks = num_blocks},
                              nullptr);
  int count = 0;
  LPLB_CUDA_CHECK(cudaOccupancyMaxActiveClusters(
      &count, reinterpret_cast<const void*>(kernels_of(is_stale).plan[0][0]), &launch.config));
  return count > 0;
}

void launch_plan_cluster(const PlanArgs& args, bool is_cut, cudaStream_t stream) {
  device::launch(kernels_of(args).plan[is_cut ? 1 : 0][exchanges(args)],
                 {.num_blocks = args.num_blocks,
                  .num_threads = kPlanThreads,
                  .shared_bytes = static_cast<std::size_t>(args.layout.bytes),
                  .cluster_blocks = args.num_blocks},
                 stream, args);
}

void launch_plan_count(const PlanPackArgs& args, cudaStream_t stream) {
  device::launch(count_kernel,
                 {.num_blocks = args.plan.num_blocks,
                  .num_threads = kPlanThreads,
                  .shared_bytes = static_cast<std::size_t>(args.plan.layout.bytes)},
                 stream, args.plan);
  device::launch(pack_kernel, {.num_blocks = 1, .num_threads = kPlanThreads}, stream, args);
}

void launch_plan_kernels(const PlanArgs& args, bool is_cut, bool early, cudaStream_t stream) {
  device::LaunchShape shape{.num_blocks = args.num_blocks,
                            .num_threads = kPlanThreads,
                            .shared_bytes = static_cast<std::size_t>(args.layout.bytes)};
  device::launch(count_kernel, shape, stream, args);
  shape.is_early = early;
  shape.num_blocks = 1;
  device::launch(kernels_of(args).solve[is_cut ? 1 : 0][exchanges(args)], shape, stream, args);
  shape.num_blocks = args.num_blocks;
  device::launch(map_kernel, shape, stream, args);
}

}  // namespace lplb
