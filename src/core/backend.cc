// SPDX-License-Identifier: MIT
#include "lplb/backend.h"

#include <atomic>

#include "core/check.h"
#include "core/format.h"
#include "core/launches.h"

namespace lplb {

Backend parse_backend(std::string_view name) {
  if (name == "cpu") return Backend::kCpu;
  if (name == "cuda") return Backend::kCuda;
  throw ArgumentError("backend",
                      formatted("\"{}\" is unknown, expected \"cpu\" or \"cuda\"", name));
}

namespace {
std::atomic<std::int64_t> launches{0};
}  // namespace

std::int64_t num_launches() { return launches.load(); }
void note_launch() { ++launches; }

const char* backend_name(Backend backend) { return backend == Backend::kCuda ? "cuda" : "cpu"; }

}  // namespace lplb
