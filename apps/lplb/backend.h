// SPDX-License-Identifier: MIT
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>

#include "lplb/backend.h"

// --backend says where a command's batches are solved. Outputs do not depend on it, so the command
// says on standard error what ran.
namespace lplb::app {

inline constexpr const char* kBackendHelp =
    "Where batches are solved; auto: on the GPU if there is one. The output is the same except for "
    "times, and standard error says what ran. Unequal speeds, solvers ipm and time, and loads "
    "above "
    "2^31 - 1 are always solved on the CPU";

/// Adds --backend auto|cpu|cuda. `help` says what it decides.
CLI::Option* add_backend(CLI::App& app, std::string& value, const std::string& help = kBackendHelp);

/// The backend that the user asked for, and the one that is used.
class BackendChoice {
 public:
  /// `name` is the value of --backend. If CUDA cannot be used here, "auto" means the CPU, and
  /// "cuda" throws ArgumentError. So does an unknown name.
  explicit BackendChoice(const std::string& name);

  Backend backend() const { return backend_; }

  /// Writes one line to standard error, unless the user asked for "cpu": how many of `solves` ran
  /// on the device, and if not all, why.
  void tell(std::int64_t solves, std::int64_t on_device) const;
  /// The same of a search of placements. `refused`: why the device did not take it; empty: it did.
  void tell_search(std::size_t layers, const std::string& refused) const;

 private:
  std::string name_;
  Backend backend_;
};

}  // namespace lplb::app
