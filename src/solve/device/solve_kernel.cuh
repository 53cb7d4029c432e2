// SPDX-License-Identifier: MIT
#pragma once

#include "solve/device/block_cut.cuh"
#include "solve/device/block_flow.cuh"
#include "solve/device/cost_intake.cuh"
#include "solve/device/fast_time.cuh"
#include "solve/device/forms.h"

// The solvers for a block: solve_in_block(), which the plan's kernel calls too, and a kernel that
// solves one instance in each block. forms.h says which file holds what, and which one to read
// first.
namespace lplb::solvers {

/// The status of one instance.
enum DeviceStatus : int {
  kDeviceOptimal = 0,
  kDeviceBounded = 1,
  kDeviceRefused = 2,  ///< a negative load, or a sum past 2^31 - 1: all outputs are 0
};

struct DeviceOutcome {
  int status;
  int bound;
  int max_load;
  int steps;
};

/// What one launch reads and writes, in device memory. Outputs may be null.
struct SolveArgs {
  const unsigned char* image;
  DeviceTablesHeader header;  ///< a copy of the image's, so that no thread waits for it
  const int* load;            ///< in: [num_batches, num_logical]
  int* physical_load;         ///< out: [num_batches, num_physical]
  int* take;                  ///< out: [num_batches, num_places]
  int* rank_load;             ///< out: [num_batches, num_ranks]
  unsigned* proof;            ///< out: [num_batches, num_ranks / 32 + 1]
  DeviceOutcome* outcome;     ///< out: [num_batches]
  TimeOutcome* time;          ///< out, with costs: [num_batches]
  int team_threads;           ///< threads that solve; all threads of the block load and store
  int max_steps;
};

/// How many loads and experts a thread holds in registers while the tables are copied.
inline constexpr int kHeldLoads = 4;

/// Adds the loads to `want` and `fixed`, and finds out whether they are sound.
class LoadIntake {
 public:
  /// Starts to read the first loads.
  __device__ LoadIntake(const SolveArgs& args)
      : args_(args),
        load_(args.load + static_cast<long long>(blockIdx.x) * args.header.num_logical),
        experts_(reinterpret_cast<const DeviceExpert*>(args.image + kExpertsOffset)) {
    for (int i = 0; i < kHeldLoads; ++i) {
      const int e = expert_at(i);
      if (e >= args_.header.num_logical) continue;
      held_[i] = load_[e];
      expert_[i] = experts_[e];
    }
  }

  /// Adds all loads of this thread, and calls also(expert, load) for each. The block must be
  /// synchronised before, because the arrays are cleared first, and after.
  template <class Also>
  __device__ void deliver(const BlockState& s, Also also) {
    for (int i = 0; i < kHeldLoads; ++i) {
      if (expert_at(i) < args_.header.num_logical) add(s, held_[i], expert_[i], also);
    }
#pragma unroll 1
    for (int i = kHeldLoads; expert_at(i) < args_.header.num_logical; ++i) {
      add(s, load_[expert_at(i)], experts_[expert_at(i)], also);
    }
  }

  /// The sum of this thread's loads is (high << 16) + low. Neither part can overflow, because the
  /// number of experts is limited.
  __device__ int high() const { return high_; }
  __device__ int low() const { return low_; }
  __device__ bool is_negative() const { return negative_; }

 private:
  __device__ int expert_at(int i) const { return i * static_cast<int>(blockDim.x) + threadIdx.x; }

  template <class Also>
  __device__ void add(const BlockState& s, int load, DeviceExpert expert, Also also) {
    negative_ |= load < 0;
    load = max(load, 0);
    high_ += load >> 16;
    low_ += load & 0xFFFF;
    if (expert.is_fixed != 0) {
      // NOTE: unsigned, because the sum may overflow. Such a load is refused later.
      atomicAdd(reinterpret_cast<unsigned*>(&s.fixed[expert.index]), static_cast<unsigned>(load));
    } else {
      s.want[expert.index] = load;
    }
    also(expert, load);
  }

  const SolveArgs& args_;
  const int* load_;
  const DeviceExpert* experts_;
  int held_[kHeldLoads];
  DeviceExpert expert_[kHeldLoads];
  int high_ = 0;
  int low_ = 0;
  bool negative_ = false;
};

/// The tokens that a slot takes. `load` [num_logical] may be in any memory. `is_whole`: the first
/// slot of a place takes all, because with costs each slot with tokens is a part of its own.
__device__ inline int slot_tokens(const DeviceSlot& slot, const int* take, const int* load,
                                  bool is_whole) {
  if (slot.count == 0 || (is_whole && slot.index > 0)) return 0;
  const int tokens = slot.place != kNoPlace ? take[slot.place] : load[slot.expert];
  if (slot.count == 1 || is_whole) return tokens;
  const int each = tokens / slot.count;
  return each + (slot.index < tokens - each * slot.count ? 1 : 0);
}

using Flow32 = MaskFlow<WarpTeam, 1, 64>;
using Flow96 = MaskFlow<BlockTeam, 3, kMaskThreads>;
using Flow128 = MaskFlow<BlockTeam, 4, kMaskThreads>;

/// Runs a solver with the first `team_threads` threads of a block. The first thread gets the
/// outcome. NOTE: if a form has a fixed number of threads, it uses the constant, so that no barrier
/// waits for a register with the number.
template <Form kForm>
__device__ BlockOutcome solve_in_block(const BlockTables& tables, const BlockState& state,
                                       int thread, int team_threads, int max_steps) {
  if constexpr (kForm == Form::kCut) {
    return BlockCut(tables, state, thread).run();
  } else if constexpr (kForm == Form::kFlow32) {
    return Flow32(tables, state, WarpTeam(thread)).run(max_steps);
  } else if constexpr (kForm == Form::kFlow96) {
    return Flow96(tables, state, BlockTeam(thread, kMaskThreads)).run(max_steps);
  } else if constexpr (kForm == Form::kFlow128) {
    return Flow128(tables, state, BlockTeam(thread, kMaskThreads)).run(max_steps);
  } else {
    const BlockTeam team(thread, team_threads);
    return BlockFlow(tables, state, team).run(max_steps);
  }
}

/// Where BlockTimeState is, behind the image and BlockState.
LPLB_HOST_DEVICE inline int time_offset(const DeviceTablesHeader& h) {
  return h.bytes + (BlockState::bytes(h) + 15) / 16 * 16;
}

#ifdef __CUDACC__
__device__ inline void put_outcome(const SolveArgs& args, long long batch,
                                   const BlockOutcome& out) {
  if (args.outcome == nullptr) return;
  args.outcome[batch] = {out.is_optimal ? kDeviceOptimal : kDeviceBounded, out.bound, out.max_load,
                         out.steps};
}

/// Starts to copy bytes [begin, end) of the image, multiples of 16, as one group of copies.
__device__ inline void copy_image(unsigned char* to, const unsigned char* from, int begin,
                                  int end) {
  const int step = static_cast<int>(blockDim.x) * 16;
#pragma unroll 1
  for (int i = begin + static_cast<int>(threadIdx.x) * 16; i < end; i += step) {
    device::copy_16(to + i, from + i);
  }
  device::close_copies();
}

/// The threads of a block, at most.
constexpr int max_threads(Form form, bool by_cost) {
  return by_cost                    ? kTimeThreads
         : form == Form::kCut       ? kCutThreads
         : form == Form::kFlowBlock ? 256
                                    : 128;
}

/// Solves one instance in each block; with kCost, by what tokens cost (fast-time), with blocks of
/// kTimeThreads. Dynamic shared memory: the image, then BlockState::bytes(), in multiples of 16,
/// and with kCost BlockTimeState::bytes(). NOTE: the launch bounds state how many blocks share a
/// multiprocessor. Without this, the compiler may spill registers so that more blocks fit.
template <Form kForm, bool kCost>
__global__ void __launch_bounds__(max_threads(kForm, kCost), kCost                    ? 1
                                                             : kForm == Form::kFlow32 ? 5
                                                             : kForm == Form::kCut    ? 2
                                                                                      : 1)
    solve_kernel(const SolveArgs args) {
  extern __shared__ uint4 memory[];
  __shared__ int sum_high, sum_low, negative;
  [[maybe_unused]] __shared__ int passes_step;
  [[maybe_unused]] __shared__ BlockOutcome found;
  [[maybe_unused]] __shared__ TimeOutcome cost;
  auto* const image = reinterpret_cast<unsigned char*>(memory);
  const int thread = threadIdx.x;
  const int num_threads = blockDim.x;
  const long long batch = blockIdx.x;

  const DeviceTablesHeader& h = args.header;
  const BlockState state = BlockState::carve(image + h.bytes, h);
  [[maybe_unused]] BlockTimeState time{};
  if constexpr (kCost) time = BlockTimeState::carve(image + time_offset(h), h);
  // Start all reads from global memory at once. What no solver reads is waited for last.
  LoadIntake intake(args);
  copy_image(image, args.image, 0, h.solver_bytes);
  copy_image(image, args.image, h.solver_bytes, h.bytes);
  if (thread == 0) sum_high = sum_low = negative = 0;
#pragma unroll 1
  for (int g = thread; g < h.num_ranks; g += num_threads) {
    state.fixed[g] = 0;
    if constexpr (kCost) CostIntake::clear(time, g);
  }
  if constexpr (kCost) {
    if (thread == 0) passes_step = 0;
    device::wait_for_older_copies();
  }
  __syncthreads();
  // Add the loads, and find out whether the batch must be refused.
  if constexpr (kCost) {
    const CostIntake costs(image, h, state, time);
    intake.deliver(state, [&](DeviceExpert expert, int load) {
      if (costs.passes_step(load)) atomicOr(&passes_step, 1);
      if (expert.is_fixed != 0) {
        costs.add_fixed(expert.index, load);
      } else {
        costs.add_replicated(expert.index, load);
      }
    });
  } else {
    intake.deliver(state, [](DeviceExpert, int) {});
  }
  const int high = __reduce_add_sync(~0u, intake.high());
  const int low = __reduce_add_sync(~0u, intake.low());
  const bool bad = __any_sync(~0u, intake.is_negative());
  if (thread % kWarpSize == 0) {
    atomicAdd(&sum_high, high);
    atomicAdd(&sum_low, low);
    if (bad) atomicOr(&negative, 1);
  }
  device::wait_for_older_copies();
  __syncthreads();
  const long long total = (static_cast<long long>(sum_high) << 16) + sum_low;
  const bool refused = negative != 0 || total > 0x7FFFFFFF;
  if constexpr (kCost) {
    CostIntake(image, h, state, time).hand_over(passes_step == 0, thread, num_threads);
    __syncthreads();
  }

  // Solve.
  if (thread < args.team_threads && !refused) {
    const BlockTables tables(image, h);
    const BlockOutcome out =
        solve_in_block<kForm>(tables, state, thread, args.team_threads, args.max_steps);
    if (thread == 0 && kCost) found = out;
    if (thread == 0 && !kCost) put_outcome(args, batch, out);
  } else if (thread == 0 && args.outcome != nullptr) {
    args.outcome[batch] = {kDeviceRefused, 0, 0, 0};
  }
  device::wait_for_copies();
  __syncthreads();
  if constexpr (kCost) {
    if (!refused) {
      BlockFastTime(image, h, state, time, thread).run(passes_step == 0, &found, &cost);
    }
    __syncthreads();
    if (thread == 0 && !refused) put_outcome(args, batch, found);
    if (thread == 0 && args.time != nullptr) args.time[batch] = refused ? TimeOutcome{} : cost;
  }

  // Write the results.
  if (args.physical_load != nullptr) {
    const auto* slots = reinterpret_cast<const DeviceSlot*>(image + h.slots);
    const int* load = args.load + batch * args.header.num_logical;
#pragma unroll 1
    for (int p = thread; p < h.num_physical; p += num_threads) {
      args.physical_load[batch * h.num_physical + p] =
          refused ? 0 : slot_tokens(slots[p], state.take, load, kCost);
    }
  }
  if (args.take != nullptr) {
    const int places = h.num_places;
#pragma unroll 1
    for (int i = thread; i < places; i += num_threads) {
      args.take[batch * places + i] = refused ? 0 : state.take[i];
    }
  }
  if (args.rank_load != nullptr) {
#pragma unroll 1
    for (int g = thread; g < h.num_ranks; g += num_threads) {
      args.rank_load[batch * h.num_ranks + g] = refused ? 0 : state.rank_load[g];
    }
  }
  if (args.proof != nullptr) {
    const int words = BlockState::words(h.num_ranks);
#pragma unroll 1
    for (int i = thread; i < words; i += num_threads) {
      args.proof[batch * words + i] = refused ? 0 : state.proof[i];
    }
  }
}
#endif

}  // namespace lplb::solvers
