// SPDX-License-Identifier: MIT
#include "trace_options.h"

#include <filesystem>

#include "core/format.h"
#include "io/json.h"
#include "options.h"

namespace lplb::app {
namespace {

constexpr const char* kSynthetic = "Synthetic traces (--trace synthetic:NAME)";
constexpr std::string_view kSyntheticPrefix = "synthetic:";

/// The synthetic trace that a user who typed `text` most likely meant; empty if none is similar.
std::string meant_synthetic(const std::string& text) {
  if (text.empty()) return "";
  std::vector<std::string> names;
  for (const std::string& name : synthetic_names()) {
    if (name == text) return formatted("{}{}", kSyntheticPrefix, name);
    names.push_back(formatted("{}{}", kSyntheticPrefix, name));
  }
  return nearest_name(text, names);
}

}  // namespace

std::string trace_help() {
  return formatted("Trace file, or synthetic:NAME, where NAME is one of {}",
                   fmt::join(synthetic_names(), ", "));
}

void add_synthetic(CLI::App& command, SyntheticOptions& synthetic) {
  add_integer(command, "--synthetic-num-logical-experts", kSynthetic, synthetic.num_logical_experts,
              1, kMaxPhysical, "Number of logical experts");
  add_integer(command, "--synthetic-num-topk", kSynthetic, synthetic.num_topk, 1, kMaxPhysical,
              "Experts of each token");
  add_integer(command, "--synthetic-num-layers", kSynthetic, synthetic.num_layers, 1, kMaxIndex,
              "Number of layers");
  add_integer(command, "--synthetic-num-steps", kSynthetic, synthetic.num_steps, 1, kMaxCount,
              "Number of steps");
  add_integer(command, "--synthetic-num-tokens", kSynthetic, synthetic.num_tokens, 1, kMaxCount,
              "Tokens of each step");
  add_integer(command, "--synthetic-seed", kSynthetic, synthetic.seed, 0, kMaxCount,
              "Seed of the random numbers");
}

void check_synthetic(const CLI::App& command, const std::string& trace) {
  if (trace.starts_with(kSyntheticPrefix)) return;
  const std::string meant = meant_synthetic(trace);
  if (!meant.empty() && !std::filesystem::exists(trace)) {
    throw ArgumentError(
        "--trace", formatted("there is no file {}, did you mean {}?", io::quote(trace), meant));
  }
  for (const CLI::Option* option : command.get_options()) {
    if (option->get_group() != kSynthetic || option->count() == 0) continue;
    throw ArgumentError(option->get_name(),
                        trace.empty() ? "is for synthetic traces, expected --trace synthetic:NAME"
                                      : formatted("is for synthetic traces, {} is a file", trace));
  }
}

}  // namespace lplb::app
