// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace lplb::app {

/// The outputs that the user asked for. Before any work is done, the constructor refuses outputs
/// that cannot be written, two outputs to the same file, and an output to the file of an input.
class Outputs {
 public:
  struct Target {
    std::string option;  ///< the option's name, for messages
    std::string path;    ///< empty: not asked for
  };
  explicit Outputs(std::vector<Target> targets, const std::vector<Target>& inputs = {});

  /// Whether an output goes to standard output. If so, no table may be printed there.
  bool take_standard_output() const;

  /// Writes `contents`, one for each target. Pipes and devices may fail late, so they are written
  /// first: then a failure leaves no file behind. Throws OutputError, and ClosedPipe if standard
  /// output is a pipe that nobody reads.
  void write(const std::vector<std::string>& contents) const;

 private:
  std::vector<Target> targets_;
};

/// The file that a policy names, such as "file:P.json+lplb" or "r2o:T.txt"; empty if it names none.
std::string file_of_policy(const std::string& policy);

/// Writes `text` to standard output. Throws OutputError and ClosedPipe.
void print(const std::string& text);

/// How many rows a table for people has. The others are only counted.
inline constexpr std::size_t kTableRows = 20;

/// A table of text. The first column is flush left, the others are flush right.
class Table {
 public:
  explicit Table(std::vector<std::string> header) : rows_{std::move(header)} {}
  void add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }
  std::string text() const;

 private:
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace lplb::app
