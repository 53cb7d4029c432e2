// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "lplb/export.h"
#include "lplb/types.h"

namespace lplb {

/// What is the same for a whole trace.
struct TraceInfo {
  std::string name;        ///< from the header, or the file's; or "synthetic:NAME"
  std::string format;      ///< "lplb-trace", "load.jsonl", "topk.npy" or "synthetic"
  bool synthetic = false;  ///< made by a formula, not recorded; reports must say so
  Index num_layers = 0;
  Index first_layer = 0;   ///< the number in the model of layer 0 here
  Index layer_stride = 1;  ///< layer i here is layer first_layer + i * layer_stride there
  /// [num_layers], ascending: the numbers in the model, if they are at unequal distances; otherwise
  /// empty.
  std::vector<Index> layers;
  Index num_logical_experts = 0;
  Index num_topk = 0;
  Index num_sources = 0;        ///< ranks that source_load tells apart; 0: it has none
  std::int64_t num_steps = -1;  ///< -1: not known before the end

  /// The number in the model of layer i here.
  std::int64_t layer_number(std::size_t i) const {
    return layers.empty() ? first_layer + static_cast<std::int64_t>(i) * layer_stride : layers[i];
  }
};

/// One recorded step: a forward pass.
struct TraceStep {
  std::int64_t step = 0;  ///< its number in the trace, from 0
  std::string domain;     ///< the kind of text; empty: unknown
  std::int64_t num_tokens = 0;
  std::vector<Load> load;  ///< [num_layers, num_logical]
  /// [num_tokens, num_layers, num_topk]: the routing; empty if the trace does not have it.
  std::vector<Index> topk_idx;
  /// How many tokens each source rank holds; empty if the trace does not have a routing or does not
  /// say. The tokens of topk_idx are in the order of their source ranks.
  std::vector<std::int64_t> source_tokens;
  /// [num_layers, num_sources, num_logical]: `load` by source rank; empty if num_sources is 0.
  std::vector<Load> source_load;
};

/// Reads a trace step by step. Only one step is in memory, however long the trace is.
class LPLB_API TraceReader {
 public:
  virtual ~TraceReader() = default;
  virtual const TraceInfo& info() const = 0;
  /// Fills `step` and returns true, or returns false at the end. Throws FileError, which names the
  /// place.
  virtual bool next(TraceStep& step) = 0;
};

/// The shape of a trace "synthetic:NAME". Ignored for files.
struct SyntheticOptions {
  Index num_logical_experts = 256;
  Index num_topk = 8;
  Index num_layers = 1;
  std::int64_t num_steps = 64;
  std::int64_t num_tokens = 4096;  ///< tokens of a step
  std::uint64_t seed = 0;
  /// The source ranks of W4_source_ragged. simulate() sets it to its num_ranks. Loads do not depend
  /// on it.
  Index num_sources = 8;
};

/// Opens a trace: a path, or "synthetic:NAME" with a NAME of synthetic_names(). The format is
/// detected from the contents of the file (docs/traces.md describes the formats). Throws FileError
/// for a bad file, and ArgumentError for a bad name or bad options of a synthetic trace.
LPLB_API std::unique_ptr<TraceReader> open_trace(const std::string& trace,
                                                 const SyntheticOptions& synthetic = {});

/// The names of the synthetic workloads: W0_balanced to W7_burst.
LPLB_API std::vector<std::string> synthetic_names();

/// The lines of a trace in this project's own format, each with its newline: the first line, then
/// one for each step. A step has its load, tokens, domain and source_load; a routing is not
/// written, and num_tokens only if each layer's load sums to num_tokens * num_topk: otherwise
/// tokens were dropped, and readers take as many tokens as the fullest layer needs.
LPLB_API std::string trace_header_line(const TraceInfo& info);
LPLB_API std::string trace_step_line(const TraceInfo& info, const TraceStep& step);

}  // namespace lplb
