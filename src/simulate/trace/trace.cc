// SPDX-License-Identifier: MIT
#include "lplb/trace.h"

#include "simulate/trace/readers.h"

namespace lplb {
namespace {

constexpr std::string_view kSyntheticPrefix = "synthetic:";
constexpr std::string_view kNpyMagic = "\x93NUMPY";

}  // namespace

std::unique_ptr<TraceReader> open_trace(const std::string& trace,
                                        const SyntheticOptions& synthetic) {
  if (trace.starts_with(kSyntheticPrefix)) {
    return replay::open_synthetic(trace.substr(kSyntheticPrefix.size()), synthetic);
  }
  replay::JsonLines lines(trace);
  if (lines.starts_with(kNpyMagic)) {
    if (trace == "-" || !lines.is_on_disk()) {
      throw FileError(lines.path(), "",
                      "holds a .npy array, expected a file STEM.topk.npy that has STEM.load.jsonl "
                      "beside it");
    }
    return replay::open_topk_trace(trace);
  }
  if (!lines.next()) {
    throw FileError(lines.path(), "", "is empty, expected a trace (docs/traces.md)");
  }
  if (lines.object().has("format")) return replay::open_own_trace(std::move(lines));
  return replay::open_load_trace(std::move(lines));
}

}  // namespace lplb
