// SPDX-License-Identifier: MIT
#pragma once

#include <string>
#include <vector>

namespace lplb::app {

/// The outputs that a command was asked for. The constructor refuses, before any work is done,
/// what cannot be written and two outputs in one place.
class Outputs {
 public:
  struct Target {
    std::string option;  ///< for messages
    std::string path;    ///< empty: not asked for
  };
  explicit Outputs(std::vector<Target> targets);

  /// Whether standard output is taken, so that no table may go there.
  bool take_standard_output() const;

  /// `contents`, one a target. Those that may fail late (pipes, devices) go first, so that a
  /// failure leaves no file behind. Throws OutputError.
  void write(const std::vector<std::string>& contents) const;

 private:
  std::vector<Target> targets_;
};

/// To standard output. Throws OutputError.
void print(const std::string& text);

/// Columns of text: the first flush left, the others flush right.
class Table {
 public:
  explicit Table(std::vector<std::string> header) : rows_{std::move(header)} {}
  void add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }
  std::string text() const;

 private:
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace lplb::app
