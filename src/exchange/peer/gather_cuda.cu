// SPDX-License-Identifier: MIT
#include "core/launch.cuh"
#include "exchange/peer/memory.h"
#include "exchange/peer/round.cuh"

namespace lplb::exchange {
namespace {

constexpr int kGatherThreads = 512;

struct GatherArgs {
  PeerArgs peers;
  const int* mine;
  int* all;
  int* outcome;
  int num_counts;
  unsigned long long fingerprint;
};

/// Runs one round, without a plan, in one block.
__global__ void __launch_bounds__(kGatherThreads)
    gather_kernel(const __grid_constant__ GatherArgs args) {
  __shared__ PeerRound::SharedVerdict verdict;
  PeerRound round(args.peers, verdict, 0, 1);
  round.begin();
  if (threadIdx.x == 0) verdict = {};
  round.push(args.num_counts, args.fingerprint, [&](int c) { return args.mine[c]; });
  int* const own = args.all + static_cast<long long>(args.peers.rank) * args.num_counts;
  for (int c = threadIdx.x; c < args.num_counts; c += kGatherThreads) own[c] = args.mine[c];
  __syncthreads();
  round.gather(args.num_counts, args.fingerprint, [&](int rank, int column, int count) {
    args.all[static_cast<long long>(rank) * args.num_counts + column] = count;
  });
  __syncthreads();
  if (threadIdx.x != 0) return;
  round.finish();
  if (args.outcome != nullptr) *args.outcome = static_cast<int>(round.verdict());
}

}  // namespace

void prepare_gather() { device::load(gather_kernel); }

void launch_gather(const PeerArgs& args, const DeviceGather& gather, StreamHandle stream) {
  device::launch(gather_kernel, {.num_blocks = 1, .num_threads = kGatherThreads},
                 static_cast<cudaStream_t>(stream),
                 GatherArgs{args, gather.mine, gather.all, gather.outcome,
                            static_cast<int>(gather.num_counts), gather.fingerprint});
}

}  // namespace lplb::exchange
