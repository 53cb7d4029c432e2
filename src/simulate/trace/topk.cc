// SPDX-License-Identifier: MIT

#include <algorithm>
#include <filesystem>

#include "core/format.h"
#include "io/npy.h"
#include "simulate/trace/readers.h"

namespace lplb::replay {
namespace {

/// Turns STEM.topk.npy (or STEM.npy) into STEM.load.jsonl.
std::string sibling_of(const std::string& path) {
  std::string_view stem = path;
  for (const std::string_view end : {".npy", ".topk"}) {
    if (stem.ends_with(end)) stem.remove_suffix(end.size());
  }
  return std::string(stem) + ".load.jsonl";
}

std::unique_ptr<TraceReader> open_sibling(const std::string& path) {
  const std::string sibling = sibling_of(path);
  std::error_code ignored;
  if (!std::filesystem::exists(sibling, ignored)) {
    throw FileError(
        path, "",
        formatted("needs {} beside it, for the lengths of the steps: not found", sibling));
  }
  JsonLines lines(sibling);
  if (!lines.next()) throw FileError(sibling, "", "is empty, expected a step a line");
  return open_load_trace(std::move(lines));
}

/// Reads the routing of every token, in the layers that were kept. Steps and domains come from the
/// *.load.jsonl in the same folder, and the routing of every step is counted and compared with its
/// loads.
class TopkTrace : public TraceReader {
 public:
  explicit TopkTrace(const std::string& path)
      : path_(path), npy_(path), loads_(open_sibling(path)) {
    const auto& shape = npy_.header().shape;
    if (shape.size() != 3) {
      fail("shape",
           formatted("has {} dimensions, expected [tokens, layers, num_topk]", shape.size()));
    }
    const TraceInfo& all = loads_->info();
    if (shape[2] != all.num_topk) {
      fail("shape",
           formatted("has {} experts a token, expected num_topk ({})", shape[2], all.num_topk));
    }
    if (shape[1] < 1 || shape[1] > kMaxLayers) {
      fail("shape", formatted("has {} layers, expected 1 to {}", shape[1], kMaxLayers));
    }
    rows_left_ = shape[0];
    info_ = all;
    info_.name = file_name(path);
    info_.format = "topk.npy";
    info_.num_layers = static_cast<Index>(shape[1]);
    has_first_ = loads_->next(whole_);
    read_rows(first_);
    find_layers();
    check_counts(first_);
  }

  const TraceInfo& info() const override { return info_; }

  bool next(TraceStep& step) override {
    if (has_first_) {
      has_first_ = false;
      step = std::move(first_);
      return true;
    }
    if (!loads_->next(whole_)) {
      if (rows_left_ > 0) {
        fail("shape", formatted("{} tokens are left after the last step of the loads beside it",
                                rows_left_));
      }
      return false;
    }
    read_rows(step);
    check_counts(step);
    return true;
  }

 private:
  [[noreturn]] void fail(const std::string& where, const std::string& problem) const {
    throw FileError(path_, where, problem);
  }

  std::span<const Load> counted(const TraceStep& step, Index layer) const {
    const auto experts = static_cast<std::size_t>(info_.num_logical_experts);
    return std::span(step.load).subspan(static_cast<std::size_t>(layer) * experts, experts);
  }

  /// Reads the rows of the step that whole_ describes: the ids, and their counts.
  void read_rows(TraceStep& step) {
    if (whole_.num_tokens > rows_left_) {
      fail("shape", formatted("{} tokens are left for step {}, expected {}", rows_left_,
                              whole_.step, whole_.num_tokens));
    }
    rows_left_ -= whole_.num_tokens;
    step.step = whole_.step;
    step.domain = whole_.domain;
    step.num_tokens = whole_.num_tokens;
    step.source_tokens.clear();
    step.source_load.clear();

    const auto layers = static_cast<std::size_t>(info_.num_layers);
    const auto experts = static_cast<std::size_t>(info_.num_logical_experts);
    const auto topk = static_cast<std::size_t>(info_.num_topk);
    step.load.assign(layers * experts, 0);
    step.topk_idx.resize(static_cast<std::size_t>(step.num_tokens) * layers * topk);
    row_.resize(layers * topk);
    for (std::size_t t = 0; t < static_cast<std::size_t>(step.num_tokens); ++t) {
      npy_.read(row_.data(), static_cast<std::int64_t>(row_.size()));
      for (std::size_t i = 0; i < row_.size(); ++i) {
        const std::int64_t id = row_[i];
        if (id < 0 || id >= info_.num_logical_experts) {
          fail(formatted("token {} of step {}", t, step.step),
               formatted("expert {}, expected 0 to {}", id, info_.num_logical_experts - 1));
        }
        step.topk_idx[t * row_.size() + i] = static_cast<Index>(id);
        ++step.load[i / topk * experts + static_cast<std::size_t>(id)];
      }
    }
  }

  /// Finds out which layers were kept, by the counts of the first step. Each kept layer is the
  /// first layer after the previous one whose load equals its counts.
  void find_layers() {
    Index from = 0;
    for (Index kept = 0; kept < info_.num_layers; ++kept) {
      const std::span<const Load> mine = counted(first_, kept);
      Index found = -1;
      for (Index layer = from; layer < loads_->info().num_layers && found < 0; ++layer) {
        if (std::ranges::equal(mine, counted(whole_, layer))) found = layer;
      }
      if (found < 0) {
        fail(formatted("step {}, layer {}", first_.step, kept),
             "its counts are those of no layer (in ascending order) of the loads beside it");
      }
      kept_.push_back(found);
      from = found + 1;
    }
    name_layers();
  }

  void name_layers() {
    const Index stride = kept_.size() > 1 ? kept_[1] - kept_[0] : 1;
    for (std::size_t i = 1; i < kept_.size(); ++i) {
      if (kept_[i] - kept_[i - 1] == stride) continue;
      for (const Index kept : kept_) info_.layers.push_back(info_.first_layer + kept);
      return;
    }
    info_.first_layer += kept_[0];
    info_.layer_stride = stride;
  }

  void check_counts(const TraceStep& step) const {
    for (Index kept = 0; kept < info_.num_layers; ++kept) {
      if (std::ranges::equal(counted(step, kept), counted(whole_, kept_[kept]))) continue;
      fail(formatted("step {}, layer {}", step.step, kept),
           formatted("its counts differ from load[{}] beside it", kept_[kept]));
    }
  }

  std::string path_;
  io::NpyReader npy_;
  std::unique_ptr<TraceReader> loads_;
  TraceInfo info_;
  TraceStep whole_;  // the loads of all layers, for the step that is being read
  TraceStep first_;
  bool has_first_ = false;
  std::vector<Index> kept_;  // [num_layers]: index into whole_'s layers
  std::vector<std::int64_t> row_;
  std::int64_t rows_left_ = 0;
};

}  // namespace

std::unique_ptr<TraceReader> open_topk_trace(const std::string& path) {
  return std::make_unique<TopkTrace>(path);
}

}  // namespace lplb::replay
