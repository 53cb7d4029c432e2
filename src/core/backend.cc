// SPDX-License-Identifier: MIT
#include "lplb/backend.h"

#include "core/check.h"

namespace lplb {

Backend parse_backend(std::string_view name) {
  if (name == "cpu") return Backend::kCpu;
  if (name == "cuda") return Backend::kCuda;
  throw ArgumentError("backend",
                      fmt::format("\"{}\" is unknown, expected \"cpu\" or \"cuda\"", name));
}

const char* backend_name(Backend backend) { return backend == Backend::kCuda ? "cuda" : "cpu"; }

}  // namespace lplb
