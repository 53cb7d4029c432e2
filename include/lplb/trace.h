// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "lplb/types.h"

namespace lplb {

/// What holds for a whole trace.
struct TraceInfo {
  std::string name;        ///< the header's, else the file name without folder; "synthetic:NAME"
  std::string format;      ///< "lplb-trace", "load.jsonl", "topk.npy", "synthetic"
  bool synthetic = false;  ///< made by a formula, not recorded: reports must say so
  Index num_layers = 0;
  Index first_layer = 0;   ///< the model's number of layer 0 here
  Index layer_stride = 1;  ///< the model's layer of layer i here is first_layer + i * layer_stride
  Index num_logical_experts = 0;
  Index num_topk = 0;
  Index num_sources = 0;        ///< ranks that source_load tells apart; 0 where there is none
  std::int64_t num_steps = -1;  ///< -1: known only at the end
};

/// One recorded step: a forward pass.
struct TraceStep {
  std::int64_t step = 0;  ///< its number in the trace, from 0
  std::string domain;     ///< kind of text; empty where unknown
  std::int64_t num_tokens = 0;
  std::vector<Load> load;  ///< [num_layers, num_logical]
  /// The routing itself where the trace has it, else empty: [num_tokens, num_layers, num_topk].
  std::vector<Index> topk_idx;
  /// Tokens that each source rank holds, where the trace has the routing and says so, else empty:
  /// the rows of topk_idx are in the order of the ranks.
  std::vector<std::int64_t> source_tokens;
  /// `load` by source rank, where num_sources > 0: [num_layers, num_sources, num_logical].
  std::vector<Load> source_load;
};

/// Reads a trace step by step; holds one step in memory, however long the trace is.
class TraceReader {
 public:
  virtual ~TraceReader() = default;
  virtual const TraceInfo& info() const = 0;
  /// Fills `step` and returns true, or returns false at the end. Throws FileError with the line.
  virtual bool next(TraceStep& step) = 0;
};

/// For "synthetic:NAME": the shape of what is made. Ignored for files.
struct SyntheticOptions {
  Index num_logical_experts = 256;
  Index num_topk = 8;
  Index num_layers = 1;
  std::int64_t num_steps = 64;
  std::int64_t num_tokens = 4096;  ///< a step
  std::uint64_t seed = 0;
  /// Source ranks of W4_source_ragged; simulate() sets it to its num_ranks. Loads do not depend on
  /// it.
  Index num_sources = 8;
};

/// Opens a trace by its path, or "synthetic:NAME" with NAME one of synthetic_names(). The format is
/// told from the contents, not the name. Formats: docs/traces.md. Throws FileError, ArgumentError.
std::unique_ptr<TraceReader> open_trace(const std::string& trace,
                                        const SyntheticOptions& synthetic = {});

/// W0_balanced ... W7_burst.
std::vector<std::string> synthetic_names();

/// The lines of this project's own format, newline included: the first line of a trace, then one a
/// step. `step` is written with its load, tokens, domain and source_load; a routing is not.
std::string trace_header_line(const TraceInfo& info);
std::string trace_step_line(const TraceInfo& info, const TraceStep& step);

}  // namespace lplb
