// SPDX-License-Identifier: MIT

#include <limits>

#include "simulate/trace/readers.h"

namespace lplb::replay {
namespace {

/// Reads *.load.jsonl of data/traces. Every line repeats what holds for the whole trace.
class LoadTrace : public TraceReader {
 public:
  explicit LoadTrace(JsonLines lines) : lines_(std::move(lines)) {
    info_.name = file_name(lines_.path());
    info_.format = "load.jsonl";
    const io::Object object = lines_.object();
    check_keys(object);
    info_.num_topk = static_cast<Index>(object.integer("num_topk", 1, kMaxPhysical));
    info_.first_layer = static_cast<Index>(object.integer("first_layer", 0, kMaxNumber));
    take(first_step_);
  }

  const TraceInfo& info() const override { return info_; }

  bool next(TraceStep& step) override {
    if (has_first_) {
      has_first_ = false;
      step = std::move(first_step_);
      return true;
    }
    if (!lines_.next()) return false;
    check_keys(lines_.object());
    take(step);
    return true;
  }

 private:
  static void check_keys(const io::Object& object) {
    object.allow_only({"step", "domain", "num_tokens", "num_topk", "first_layer", "load"});
  }

  /// Checks the line and moves it into `step`.
  void take(TraceStep& step) {
    const io::Object object = lines_.object();
    object.integer("step", step_, step_);
    object.integer("num_topk", info_.num_topk, info_.num_topk);
    object.integer("first_layer", info_.first_layer, info_.first_layer);
    step.step = step_++;
    step.domain = object.string("domain");
    step.num_tokens = object.integer("num_tokens", 0, std::numeric_limits<std::int64_t>::max());
    read_load(lines_, info_, step.load);
    check_sums(lines_, info_, step);
    check_experts(lines_, info_, step);
    step.topk_idx.clear();
    step.source_tokens.clear();
    step.source_load.clear();
  }

  JsonLines lines_;
  TraceInfo info_;
  TraceStep first_step_;
  bool has_first_ = true;
  std::int64_t step_ = 0;
};

}  // namespace

std::unique_ptr<TraceReader> open_load_trace(JsonLines lines) {
  return std::make_unique<LoadTrace>(std::move(lines));
}

}  // namespace lplb::replay
