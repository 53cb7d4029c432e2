// SPDX-License-Identifier: MIT
#include "backend.h"

#include <cstdio>

#include "core/format.h"
#include "io/json.h"
#include "io/text.h"
#include "options.h"

namespace lplb::app {
namespace {

constexpr std::size_t kMaxLine = 2000;

Backend choose(const std::string& name) {
  const std::string& missing = cuda_support().missing;
  if (name == "auto") return missing.empty() ? Backend::kCuda : Backend::kCpu;
  if (name != "cpu" && name != "cuda") {
    throw ArgumentError("--backend",
                        formatted("{} is unknown, expected auto, cpu or cuda", io::quote(name)));
  }
  const Backend backend = parse_backend(name);
  if (backend == Backend::kCuda && !missing.empty()) {
    throw ArgumentError("--backend", "cuda is not available: " + missing);
  }
  return backend;
}

std::string not_available() {
  return "backend cpu: cuda is not available: " + cuda_support().missing;
}

void print_note(const std::string& line) {
  std::fprintf(stderr, "lplb: %s\n", io::printable(line, kMaxLine).c_str());
}

}  // namespace

CLI::Option* add_backend(CLI::App& app, std::string& value, const std::string& help) {
  return add_text(app, "--backend", kSettings, "auto|cpu|cuda", value, help);
}

BackendChoice::BackendChoice(const std::string& name) : name_(name), backend_(choose(name)) {}

void BackendChoice::tell(std::int64_t solves, std::int64_t on_device) const {
  if (name_ == "cpu") return;
  if (backend_ == Backend::kCpu) {
    print_note(not_available());
    return;
  }
  std::string line = formatted("backend cuda: {} of {} solves on {}", on_device, solves,
                               cuda_support().devices[0].name);
  if (on_device < solves) {
    line += formatted(
        ", {} on the CPU: the device takes neither solvers ipm and time, unequal speeds, loads "
        "past 2^31 - 1 nor placements larger than a block's memory",
        solves - on_device);
  }
  print_note(line);
}

void BackendChoice::tell_search(std::size_t layers, const std::string& refused) const {
  if (name_ == "cpu") return;
  if (backend_ == Backend::kCpu) {
    print_note(not_available());
  } else if (!refused.empty()) {
    print_note("backend cpu: " + refused);
  } else {
    print_note(formatted("backend cuda: {} layers searched on {}", layers,
                         cuda_support().devices[0].name));
  }
}

}  // namespace lplb::app
