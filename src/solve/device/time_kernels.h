// SPDX-License-Identifier: MIT
#pragma once

#include "solve/device/forms.h"

namespace lplb::solvers {

struct SolveArgs;

/// The kernels that split by costs: solve_kernel() with kCost, for blocks of kTimeThreads.
using SolveKernel = void (*)(SolveArgs);
SolveKernel time_kernel(Form form);

/// Lets them use so much dynamic shared memory of the current device.
void allow_time_kernels(int bytes);

}  // namespace lplb::solvers
