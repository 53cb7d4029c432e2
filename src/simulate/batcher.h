// SPDX-License-Identifier: MIT
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "lplb/trace.h"

namespace lplb::replay {

/// What is placed and split at once: a step, steps merged, or a piece of one.
struct Batch {
  std::int64_t num_tokens = 0;
  std::vector<Load> load;         // [num_layers, num_logical]
  std::vector<Load> source_load;  // [num_layers, num_ranks, num_logical]; empty: not known
};

/// Makes batches of a trace. 0 `batch_tokens`: the steps as recorded. N: a step of 2N tokens or
/// more is cut into floor(tokens / N) pieces that differ by a token at most; then consecutive steps
/// and pieces of one domain are merged until a batch holds N tokens. Only a domain's last batch may
/// hold fewer. A routing is cut by rows; loads are cut in proportion, so that an expert's tokens
/// over the pieces add up to its tokens in the step.
/// Home ranks: a batch's rows are cut into num_ranks consecutive blocks that differ by a token at
/// most, unless the trace tells. Sources that the trace tells apart must be num_ranks, or a
/// multiple (consecutive ones then share a rank); else homes are not known.
class Batcher {
 public:
  Batcher(TraceReader& reader, std::int64_t batch_tokens, Index num_ranks);

  /// False at the end. Throws FileError (the trace, or a sum past 2^63 - 1).
  bool next(Batch& batch);

 private:
  /// A batch being collected: loads, and the rows and homes where there is a routing.
  struct Pending {
    std::string domain;
    std::int64_t num_tokens = 0;
    bool empty = true;
    std::vector<Load> load, source_load;
    std::vector<Index> topk_idx;
    std::vector<Index> home;  // [num_tokens] where the trace tells, else empty
  };

  bool load_step();
  std::int64_t piece_begin(std::int64_t piece) const;
  void append_piece();
  void append_loads(std::vector<Load>& sum, const std::vector<Load>& step, std::size_t width);
  void append_rows(std::int64_t begin, std::int64_t end);
  void emit(Batch& batch);
  void count_sources(Batch& batch) const;
  void fold_sources(Batch& batch) const;

  TraceReader& reader_;
  std::int64_t batch_tokens_;
  Index num_ranks_;
  TraceStep step_;
  std::int64_t num_pieces_ = 0;  // of step_
  std::int64_t piece_ = 0;       // the next to take
  Pending pending_;
};

}  // namespace lplb::replay
