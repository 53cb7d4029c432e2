// SPDX-License-Identifier: MIT
#include <algorithm>
#include <functional>

#include "core/check.h"
#include "io/output.h"
#include "lplb/files.h"
#include "simulate/trace/readers.h"

namespace lplb {
namespace {

/// Checks what the first line says.
void check_info(const TraceInfo& info) {
  const auto check = [](Index value, Index low, Index high, const char* name) {
    check_argument(value >= low && value <= high, name, "{} is not between {} and {}", value, low,
                   high);
  };
  check(info.num_layers, 1, replay::kMaxLayers, "num_layers");
  check(info.num_logical_experts, 1, kMaxPhysical, "num_logical_experts");
  check(info.num_topk, 1, info.num_logical_experts, "num_topk");
  check(info.num_sources, 0, kMaxRanks, "num_sources");
  if (info.layers.empty()) {
    check_argument(info.first_layer >= 0, "first_layer", "{} is below 0", info.first_layer);
    check_argument(info.layer_stride >= 1, "layer_stride", "{} is below 1", info.layer_stride);
    return;
  }
  check_argument(
      info.layers.size() == static_cast<std::size_t>(info.num_layers) && info.layers[0] >= 0 &&
          std::ranges::adjacent_find(info.layers, std::greater_equal<>()) == info.layers.end(),
      "layers", "expected num_layers ({}) ascending numbers >= 0", info.num_layers);
}

/// Checks the tokens of one layer of step `i`: `load` [num_logical], and by source. Returns their
/// sum.
Load check_layer(std::span<const Load> load, std::span<const Load> sources, std::size_t i,
                 std::size_t layer) {
  Load sum = 0;
  for (std::size_t e = 0; e < load.size(); ++e) {
    check_argument(load[e] >= 0, "steps",
                   "[{}] has the load {} in layer {}, expected integers >= 0", i, load[e], layer);
    check_argument(!__builtin_add_overflow(sum, load[e], &sum), "steps",
                   "[{}] has a load that sums to 2^63 or more in layer {}", i, layer);
    if (sources.empty()) continue;
    Load left = load[e];
    for (std::size_t at = e; at < sources.size() && left >= 0; at += load.size()) {
      left = sources[at] < 0 ? -1 : left - sources[at];
    }
    check_argument(left == 0, "steps",
                   "[{}] has source_load that does not sum to the load {} of expert {} in layer {}",
                   i, load[e], e, layer);
  }
  return sum;
}

void check_step(const TraceInfo& info, const TraceStep& step, std::size_t i) {
  const auto experts = static_cast<std::size_t>(info.num_logical_experts);
  const auto layers = static_cast<std::size_t>(info.num_layers);
  const auto by_source = experts * static_cast<std::size_t>(info.num_sources);
  check_argument(step.load.size() == layers * experts, "steps",
                 "[{}].load has {} entries, expected [num_layers, num_logical_experts] = [{}, {}]",
                 i, step.load.size(), layers, experts);
  check_argument(step.source_load.size() == layers * by_source, "steps",
                 "[{}].source_load has {} entries, expected num_layers * num_sources * "
                 "num_logical_experts ({})",
                 i, step.source_load.size(), layers * by_source);
  Load fullest = 0;
  for (std::size_t layer = 0; layer < layers; ++layer) {
    fullest = std::max(
        fullest,
        check_layer(std::span(step.load).subspan(layer * experts, experts),
                    std::span(step.source_load).subspan(layer * by_source, by_source), i, layer));
  }
  // A token goes to an expert at most once.
  const Load tokens = fullest / info.num_topk + (fullest % info.num_topk != 0 ? 1 : 0);
  const Load most = *std::ranges::max_element(step.load);
  check_argument(most <= tokens, "steps",
                 "[{}] has {} tokens on one expert, but its fullest layer has {} entries, those of "
                 "{} tokens that go to num_topk ({}) experts each",
                 i, most, fullest, tokens, info.num_topk);
}

}  // namespace

std::vector<TraceStep> read_trace_file(const std::string& path, TraceInfo* info) {
  const std::unique_ptr<TraceReader> reader = open_trace(path);
  std::vector<TraceStep> steps;
  for (TraceStep step; reader->next(step); step = {}) steps.push_back(std::move(step));
  if (info != nullptr) *info = reader->info();
  return steps;
}

void write_trace_file(const TraceInfo& info, std::span<const TraceStep> steps,
                      const std::string& path) {
  check_info(info);
  std::string text = trace_header_line(info);
  for (std::size_t i = 0; i < steps.size(); ++i) {
    check_step(info, steps[i], i);
    text += trace_step_line(info, steps[i]);
  }
  io::write_file(path, text);
}

}  // namespace lplb
