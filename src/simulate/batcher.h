// SPDX-License-Identifier: MIT
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "lplb/trace.h"

namespace lplb::replay {

/// What is placed and split at once: a step, several steps merged, or a piece of a step.
struct Batch {
  std::int64_t num_tokens = 0;
  std::string domain;             // of its first step
  std::vector<Load> load;         // [num_layers, num_logical]
  std::vector<Load> source_load;  // [num_layers, num_ranks, num_logical]; empty: not known
  std::vector<char> has_tokens;   // [num_layers]
};

/// Makes batches of a trace.
///
/// If `batch_tokens` is 0, batches are the steps as recorded. If it is N, a step of 2N tokens or
/// more is cut into floor(tokens / N) pieces that differ by at most one token. Then consecutive
/// steps and pieces of one domain are merged until a batch holds N tokens. Only a domain's last
/// batch may hold fewer. A routing is cut by rows. Loads are cut in proportion: the tokens that an
/// expert has in the pieces add up to its tokens in the step.
///
/// The home rank of a token comes from the trace, if the trace tells it. The number of sources must
/// then be num_ranks or a multiple of it, and consecutive sources share a rank; with any other
/// number homes are not known. If the trace does not tell, a batch's rows are cut into num_ranks
/// consecutive blocks that differ by at most one token.
class Batcher {
 public:
  Batcher(TraceReader& reader, std::int64_t batch_tokens, Index num_ranks);

  /// Makes the next batch. Returns false at the end of the trace. Throws FileError if the trace is
  /// bad or a sum passes 2^63 - 1.
  bool next(Batch& batch);

  /// How many steps without a routing were cut so far.
  std::int64_t num_cut_loads() const { return num_cut_loads_; }

 private:
  /// A batch that is being collected: its loads, and its rows and homes if the trace has a routing.
  struct Pending {
    std::string domain;
    std::int64_t num_tokens = 0;
    bool empty = true;
    std::vector<Load> load, source_load;
    std::vector<Index> topk_idx;
    std::vector<Index> home;  // [num_tokens] if the trace tells; otherwise empty
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
  std::int64_t num_pieces_ = 0;  // how many pieces step_ has
  std::int64_t piece_ = 0;       // the next piece to take
  std::int64_t num_cut_loads_ = 0;
  Pending pending_;
};

}  // namespace lplb::replay
