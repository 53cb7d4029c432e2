// SPDX-License-Identifier: MIT
#pragma once

#include <memory>
#include <string>

#include "simulate/trace/lines.h"

// A trace format is one file and one branch of open_trace().
namespace lplb::replay {

/// What the recorded formats call themselves, in TraceInfo::format.
inline constexpr const char* kOwnFormat = "lplb-trace";
inline constexpr int kOwnVersion = 1;

/// This project's own format. `lines` is at the first line.
std::unique_ptr<TraceReader> open_own_trace(JsonLines lines);

/// *.load.jsonl. `lines` is at the first line.
std::unique_ptr<TraceReader> open_load_trace(JsonLines lines);

/// *.topk.npy, with the *.load.jsonl beside it.
std::unique_ptr<TraceReader> open_topk_trace(const std::string& path);

/// `name` without "synthetic:".
std::unique_ptr<TraceReader> open_synthetic(const std::string& name,
                                            const SyntheticOptions& options);

}  // namespace lplb::replay
