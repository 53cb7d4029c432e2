// SPDX-License-Identifier: MIT
#pragma once

#include "solve/device/device_tables.h"

// What a host must know of the solvers' kernels, to launch them or to solve in a kernel of its own.
//
// The solvers have five forms, chosen by the sizes of the placement. All do the same, step by step,
// as their twins on the CPU, cut_cpu.cc and flow_cpu.cc. Read these first, then:
//
//   block_flow.cuh    flow for any size, with labels in shared memory. The simple one: one loop
//                     for each function of flow_cpu.cc
//   sweep.cuh         what all forms do first: share the tokens evenly, and sweep. Of its
//                     functions that level one expert, level_places() is the simple one
//   mask_flow.cuh     flow for up to 32, 96 or 128 ranks, a thread for each: sets of ranks are
//                     bit masks in registers. With rank_places.cuh: what a thread gives in a wave
//   block_cut.cuh     cut for up to 8 live ranks: a thread for each of the 256 sets of ranks
//   cost_tables.cuh   what tokens cost, in shared memory; cost_intake.cuh: of a batch
//   fast_time.cuh     the twin of fast.cc, for a block: what follows a form if tokens have costs.
//                     cost_sweeps.cuh: its sweeps; cost_levels.cuh: levels one expert
//   solve_kernel.cuh  solve_in_block() picks the form; solve_kernel() is a kernel around it
//
// docs/design/0007-solver-kernels.md says why there are so many.
namespace lplb::solvers {

/// Threads of a team if a set of ranks has more than one word: one thread for each rank.
inline constexpr int kMaskThreads = 128;

/// Threads of cut: a warp that sweeps, and a thread for each set of ranks. No form has more.
inline constexpr int kCutThreads = 288;
inline constexpr int kMostTeamThreads = kCutThreads;

/// Threads of a block that splits by costs (fast_time.cuh).
inline constexpr int kTimeThreads = 512;
inline constexpr int kTimeWarps = kTimeThreads / kWarpSize;

/// The forms. All give the same result for a placement that they take.
enum class Form {
  kCut,        ///< nine warps, up to 8 live ranks
  kFlow32,     ///< one warp, up to 32 ranks and 64 replicated experts
  kFlow96,     ///< 128 threads, up to 96 ranks and 128 replicated experts
  kFlow128,    ///< the same, up to 128 ranks
  kFlowBlock,  ///< a team of warps, any size
};

/// The quickest form for a placement, and the number of threads that suits it best. `solver` is
/// kCut or kFlow.
Form choose_form(const DeviceTablesHeader& h, Solver solver);
int team_threads(const DeviceTablesHeader& h, Form form);

/// The size in bytes of a solver's state in shared memory: BlockState::bytes().
int state_bytes(const DeviceTablesHeader& h);
/// The same of what costs add: BlockTimeState::bytes().
int time_bytes(const DeviceTablesHeader& h);

}  // namespace lplb::solvers
