// SPDX-License-Identifier: MIT
#pragma once

#include "solve/device/device_tables.h"

// What a host needs to know of the solvers' kernels to launch them, or to solve within a kernel of
// its own.
namespace lplb::solvers {

/// Threads of a team if sets of ranks are more than one word: one for each rank.
inline constexpr int kMaskThreads = 128;

/// The solvers' forms; all give the same result where they can be used.
enum class Form {
  kCut,        ///< two warps, up to 8 live ranks
  kFlow32,     ///< one warp, up to 32 ranks and 64 replicated experts
  kFlow96,     ///< 128 threads, up to 96 ranks and 128 replicated experts
  kFlow128,    ///< the same, up to 128 ranks
  kFlowBlock,  ///< a team of warps, any size
};

/// The quickest form for a placement, and the threads that it runs best with. `solver` is kCut or
/// kFlow.
Form choose_form(const DeviceTablesHeader& h, Solver solver);
int team_threads(const DeviceTablesHeader& h, Form form);

/// Bytes of shared memory that a solver's state takes: BlockState::bytes().
int state_bytes(const DeviceTablesHeader& h);

}  // namespace lplb::solvers
