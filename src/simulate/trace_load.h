// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lplb/trace.h"

namespace lplb::replay {

/// The load of a trace's last batches, from which a placement is made.
struct TraceLoad {
  TraceInfo info;
  std::vector<double> load;      ///< [num_layers, num_logical]: the sum over the batches
  std::int64_t num_batches = 0;  ///< of the whole trace
  std::int64_t num_summed = 0;   ///< of these, how many are in `load`
};

/// The model's numbers of the layers; empty if they are the layers of the trace, from 0 on.
std::vector<Index> layer_numbers(const TraceInfo& info);

/// Reads a whole trace, as open_trace() takes it, and adds up the loads of its last `window`
/// batches, or of all batches if `window` is 0. Batches are those of SimulateOptions::batch_tokens.
/// The sum is what simulate() places from after the last batch with this window. Memory holds the
/// loads of `window` batches. Throws FileError if the trace is bad or holds no steps.
TraceLoad read_trace_load(const std::string& trace, const SyntheticOptions& synthetic,
                          std::int64_t batch_tokens, std::int64_t window);

}  // namespace lplb::replay
