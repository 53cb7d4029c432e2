// SPDX-License-Identifier: MIT
#pragma once

#include <memory>
#include <string>

#include "simulate/trace/lines.h"

// Each trace format has one file, and one branch in open_trace().
namespace lplb::replay {

/// This project's own format: its name, which TraceInfo::format holds too, and its version.
inline constexpr const char* kOwnFormat = "lplb-trace";
inline constexpr int kOwnVersion = 1;

/// Opens a trace of this project's own format. `lines` is at the first line.
std::unique_ptr<TraceReader> open_own_trace(JsonLines lines);

/// Opens *.load.jsonl. `lines` is at the first line.
std::unique_ptr<TraceReader> open_load_trace(JsonLines lines);

/// Opens *.topk.npy, and the *.load.jsonl in the same folder.
std::unique_ptr<TraceReader> open_topk_trace(const std::string& path);

/// Opens a synthetic trace. `name` does not have the prefix "synthetic:".
std::unique_ptr<TraceReader> open_synthetic(const std::string& name,
                                            const SyntheticOptions& options);

}  // namespace lplb::replay
