// SPDX-License-Identifier: MIT
#pragma once

#include <functional>
#include <string>

#include "simulate/report/sweep.h"

namespace lplb::app {

/// Replays once for each value of `text`: "NAME=LOW:HIGH", "NAME=LOW:HIGH:STEP" or "NAME=A,B,C",
/// where NAME is redundants, num-replicas, num-ranks, window, rebalance-every or batch-tokens. A
/// policy that does not fit a value is left out there, and named in Sweep::problems; the rest is
/// kept. Throws ArgumentError, which names --sweep, if the text is bad, or if nothing can be
/// replayed.
report::Sweep run_sweep(SimulateOptions options, const std::string& text);

/// For each policy the mean imbalance with each value, and what is enough.
std::string sweep_text(const report::Sweep& sweep);

}  // namespace lplb::app
