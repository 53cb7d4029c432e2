// SPDX-License-Identifier: MIT
#include "simulate/batcher.h"

#include <algorithm>

#include "core/check.h"
#include "core/format.h"
#include "core/wide.h"

namespace lplb::replay {
namespace {

/// floor(a * b / c) without overflow.
std::int64_t scaled(std::int64_t a, std::int64_t b, std::int64_t c) {
  return static_cast<std::int64_t>(static_cast<Int128>(a) * b / c);
}

/// How many of an expert's `tokens` come before position `t` of `of`. Rounding starts at another
/// phase for each expert (multiples of the golden ratio). Otherwise the tokens of experts with a
/// single token would all fall into the last piece.
Load share(Load tokens, std::int64_t t, std::int64_t of, std::size_t expert) {
  const auto fraction = static_cast<std::uint64_t>(expert) * 0x9E3779B97F4A7C15u;
  const auto phase = static_cast<std::int64_t>(
      static_cast<Uint128>(fraction) * static_cast<std::uint64_t>(of) >> 64);
  return static_cast<Load>((static_cast<Int128>(tokens) * t + phase) / of);
}

}  // namespace

Batcher::Batcher(TraceReader& reader, std::int64_t batch_tokens, Index num_ranks)
    : reader_(reader), batch_tokens_(batch_tokens), num_ranks_(num_ranks) {}

bool Batcher::next(Batch& batch) {
  for (;;) {
    if (piece_ == num_pieces_ && !load_step()) {
      if (pending_.empty) return false;
      emit(batch);
      return true;
    }
    const bool full = batch_tokens_ == 0 || pending_.num_tokens >= batch_tokens_;
    if (!pending_.empty && (full || pending_.domain != step_.domain)) {
      emit(batch);
      return true;
    }
    append_piece();
  }
}

bool Batcher::load_step() {
  if (!reader_.next(step_)) return false;
  piece_ = 0;
  num_pieces_ = 1;
  if (batch_tokens_ > 0) num_pieces_ = std::max<std::int64_t>(1, step_.num_tokens / batch_tokens_);
  num_cut_loads_ += num_pieces_ > 1 && step_.topk_idx.empty() ? 1 : 0;
  return true;
}

std::int64_t Batcher::piece_begin(std::int64_t piece) const {
  return scaled(step_.num_tokens, piece, num_pieces_);
}

void Batcher::append_piece() {
  const std::int64_t begin = piece_begin(piece_);
  const std::int64_t end = piece_begin(piece_ + 1);
  if (pending_.empty) pending_.domain = step_.domain;
  pending_.empty = false;
  if (__builtin_add_overflow(pending_.num_tokens, end - begin, &pending_.num_tokens)) {
    throw FileError(reader_.info().name, formatted("step {}", step_.step),
                    "the tokens of the merged batch pass 2^63 - 1");
  }
  const auto experts = static_cast<std::size_t>(reader_.info().num_logical_experts);
  if (step_.topk_idx.empty()) {
    append_loads(pending_.load, step_.load, experts);
    append_loads(pending_.source_load, step_.source_load, experts);
  } else {
    append_rows(begin, end);
  }
  ++piece_;
}

void Batcher::append_loads(std::vector<Load>& sum, const std::vector<Load>& step,
                           std::size_t width) {
  if (sum.empty() && num_pieces_ == 1) {
    sum = step;
    return;
  }
  sum.resize(step.size(), 0);
  const std::int64_t begin = piece_begin(piece_);
  const std::int64_t end = piece_begin(piece_ + 1);
  bool overflow = false;
  for (std::size_t i = 0; i < step.size(); ++i) {
    Load tokens = step[i];
    if (num_pieces_ > 1) {
      tokens = share(step[i], end, step_.num_tokens, i % width) -
               share(step[i], begin, step_.num_tokens, i % width);
    }
    overflow |= __builtin_add_overflow(sum[i], tokens, &sum[i]);
  }
  if (overflow) {
    throw FileError(reader_.info().name, formatted("step {}", step_.step),
                    "the loads of the merged batch pass 2^63 - 1");
  }
}

void Batcher::append_rows(std::int64_t begin, std::int64_t end) {
  const auto row = static_cast<std::ptrdiff_t>(step_.topk_idx.size()) / step_.num_tokens;
  pending_.topk_idx.insert(pending_.topk_idx.end(), step_.topk_idx.begin() + begin * row,
                           step_.topk_idx.begin() + end * row);
  if (step_.source_tokens.size() != static_cast<std::size_t>(num_ranks_)) return;
  std::int64_t from = 0;
  for (Index r = 0; r < num_ranks_; ++r) {
    const std::int64_t until = from + step_.source_tokens[r];
    const std::int64_t here = std::min(until, end) - std::max(from, begin);
    if (here > 0) pending_.home.insert(pending_.home.end(), static_cast<std::size_t>(here), r);
    from = until;
  }
}

void Batcher::emit(Batch& batch) {
  batch.num_tokens = pending_.num_tokens;
  batch.domain = pending_.domain;
  batch.source_load.clear();
  if (!pending_.topk_idx.empty()) {
    count_sources(batch);
  } else {
    batch.load = std::move(pending_.load);
    fold_sources(batch);
  }
  batch.has_tokens.clear();
  const auto experts = static_cast<std::ptrdiff_t>(reader_.info().num_logical_experts);
  for (auto layer = batch.load.begin(); layer != batch.load.end(); layer += experts) {
    const auto is_load = [](Load load) { return load > 0; };
    batch.has_tokens.push_back(std::any_of(layer, layer + experts, is_load) ? 1 : 0);
  }
  pending_ = {};
}

void Batcher::count_sources(Batch& batch) const {
  const TraceInfo& info = reader_.info();
  const auto experts = static_cast<std::size_t>(info.num_logical_experts);
  const auto layers = static_cast<std::size_t>(info.num_layers);
  const auto topk = static_cast<std::size_t>(info.num_topk);
  const auto ranks = static_cast<std::size_t>(num_ranks_);
  batch.source_load.assign(layers * ranks * experts, 0);
  batch.load.assign(layers * experts, 0);
  const Index* id = pending_.topk_idx.data();
  for (std::int64_t t = 0; t < batch.num_tokens; ++t) {
    const std::size_t home =
        pending_.home.empty()
            ? static_cast<std::size_t>(t * num_ranks_ / batch.num_tokens)
            : static_cast<std::size_t>(pending_.home[static_cast<std::size_t>(t)]);
    for (std::size_t layer = 0; layer < layers; ++layer) {
      Load* counts = batch.source_load.data() + (layer * ranks + home) * experts;
      for (std::size_t k = 0; k < topk; ++k) ++counts[*id++];
    }
  }
  for (std::size_t i = 0; i < batch.source_load.size(); ++i) {
    batch.load[i / (ranks * experts) * experts + i % experts] += batch.source_load[i];
  }
}

/// Sums the loads of the trace's sources to loads of the replay's ranks.
void Batcher::fold_sources(Batch& batch) const {
  const Index sources = reader_.info().num_sources;
  if (sources == 0 || sources % num_ranks_ != 0) return;
  // The load of a piece is made from the loads of its sources. So the two agree, although each was
  // rounded when the step was cut.
  const auto experts = static_cast<std::size_t>(reader_.info().num_logical_experts);
  const std::size_t width = experts * static_cast<std::size_t>(sources / num_ranks_);
  batch.source_load.assign(pending_.source_load.size() / width * experts, 0);
  std::fill(batch.load.begin(), batch.load.end(), 0);
  for (std::size_t i = 0; i < pending_.source_load.size(); ++i) {
    const std::size_t rank = i / width;  // layer * num_ranks + rank
    batch.source_load[rank * experts + i % experts] += pending_.source_load[i];
    const std::size_t layer = rank / static_cast<std::size_t>(num_ranks_);
    batch.load[layer * experts + i % experts] += pending_.source_load[i];
  }
}

}  // namespace lplb::replay
