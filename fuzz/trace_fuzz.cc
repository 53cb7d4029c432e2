// SPDX-License-Identifier: MIT
#include "lplb/trace.h"
#include "target.h"

/// The input is a trace of one file, in this project's own format or *.load.jsonl. Each step that
/// is accepted must have the shape that the trace promises.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace lplb;
  return fuzz::run([&] {
    const fuzz::MemoryFile file(fuzz::text_of(data, size));
    const auto reader = open_trace(file.path());
    const TraceInfo& info = reader->info();
    const auto length = std::size_t{1} * info.num_layers * info.num_logical_experts;
    TraceStep step;
    while (reader->next(step)) {
      if (step.load.size() != length || step.num_tokens < 0) std::abort();
      if (step.source_load.size() != length * static_cast<std::size_t>(info.num_sources)) {
        std::abort();
      }
    }
  });
}
