// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "lplb/simulate.h"

namespace lplb::replay {

/// The load of a trace's last batches, from which a placement is made.
struct TraceLoad {
  TraceInfo info;
  std::vector<double> load;      ///< [num_layers, num_logical]: the sum over the batches
  std::int64_t num_batches = 0;  ///< of the whole trace
  std::int64_t num_summed = 0;   ///< of these, how many are in `load`
  std::optional<RepeatedTokens> repeats;
  /// [num_summed], each [num_layers, num_logical]: the batches one by one, if they were asked for.
  std::vector<std::vector<Load>> batches;
};

/// The model's numbers of the layers; empty if they are the layers of the trace, from 0 on.
std::vector<Index> layer_numbers(const TraceInfo& info);

/// Reads a whole trace and adds up the loads of its last `window` batches, or of all batches if
/// `window` is 0. Of `options` it reads trace, synthetic, batch_tokens, skip_steps and
/// drop_repeats. The sum is what simulate() places from after the last batch with this window.
/// Memory holds the loads of `window` batches, or those of all batches if `window` is 0 and
/// `keep_batches` is true. Throws FileError if the trace is bad or holds no
/// steps, and ArgumentError if skip_steps leaves none or drop_repeats cannot be done.
TraceLoad read_trace_load(const SimulateOptions& options, std::int64_t window, bool keep_batches);

}  // namespace lplb::replay
