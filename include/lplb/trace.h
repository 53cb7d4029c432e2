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
  std::string name;        ///< file name without folder, or "synthetic:NAME"
  std::string format;      ///< "lplb-trace", "load.jsonl", "topk.npy", "synthetic"
  bool synthetic = false;  ///< made by a formula, not recorded: reports must say so
  Index num_layers = 0;
  Index first_layer = 0;  ///< the model's number of layer 0 here
  Index layer_stride = 1; ///< the model's layer of layer i here is first_layer + i * layer_stride
  Index num_logical_experts = 0;
  Index num_topk = 0;
};

/// One recorded step: a forward pass, or several merged into a batch.
struct TraceStep {
  std::int64_t step = 0;        ///< its number in the trace, from 0
  std::string domain;           ///< kind of text; empty where unknown
  std::int64_t num_tokens = 0;
  std::vector<Load> load;       ///< [num_layers, num_logical]
  /// The routing itself where the trace has it, else empty: [num_tokens, num_layers, num_topk].
  std::vector<Index> topk_idx;
  /// Tokens of this step that each source rank holds, where the trace says so, else empty.
  std::vector<std::int64_t> source_tokens;
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
};

/// Opens a trace by its path, or "synthetic:NAME" with NAME one of synthetic_names(). The format is
/// told from the contents, not the name. Formats: docs/formats.md. Throws FileError, ArgumentError.
std::unique_ptr<TraceReader> open_trace(const std::string& trace,
                                        const SyntheticOptions& synthetic = {});

/// W0_balanced ... W7_burst.
std::vector<std::string> synthetic_names();

}  // namespace lplb
