// SPDX-License-Identifier: MIT
#pragma once

#include <memory>
#include <string>

#include "simulate/lines.h"

// A trace format is one file and one branch of open_trace().
namespace lplb::replay {

/// What the recorded formats call themselves, in TraceInfo::format.
inline constexpr const char* kOwnFormat = "lplb-trace";
inline constexpr int kOwnVersion = 1;

/// This project's own format. `header` is the first line, already read from `lines`.
std::unique_ptr<TraceReader> open_own_trace(JsonLines lines, const io::Json& header);

/// *.load.jsonl. `first` is the first line, already read from `lines`.
std::unique_ptr<TraceReader> open_load_trace(JsonLines lines, io::Json first);

/// *.topk.npy, with the *.load.jsonl beside it.
std::unique_ptr<TraceReader> open_topk_trace(const std::string& path);

/// `name` without "synthetic:".
std::unique_ptr<TraceReader> open_synthetic(const std::string& name,
                                            const SyntheticOptions& options);

}  // namespace lplb::replay
