// SPDX-License-Identifier: MIT
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>

#include "lplb/backend.h"

// --backend: where a command's batches are solved. Outputs do not depend on it, so what ran is told
// on standard error.
namespace lplb::app {

inline constexpr const char* kBackendHelp =
    "Where batches are solved; auto: on the GPU where there is one. The output is the same but for "
    "times; standard error tells what ran. Unequal speeds, solver ipm and loads past 2^31 - 1 stay "
    "on the CPU";

/// "auto|cpu|cuda"; `help` says what it decides.
CLI::Option* add_backend(CLI::App& app, std::string& value, const std::string& help = kBackendHelp);

/// What a command was asked for, and what ran.
class BackendChoice {
 public:
  /// `name` as given. Throws ArgumentError for another name, and for "cuda" where CUDA cannot be
  /// used here: "auto" is the CPU then.
  explicit BackendChoice(const std::string& name);

  Backend backend() const { return backend_; }

  /// One line on standard error, unless "cpu" was asked for: how many of `solves` ran on the
  /// device, and why not all.
  void tell(std::int64_t solves, std::int64_t on_device) const;

 private:
  std::string name_;
  Backend backend_;
};

}  // namespace lplb::app
