// SPDX-License-Identifier: MIT
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "io/input.h"
#include "io/json.h"
#include "lplb/trace.h"
#include "simulate/trace/arrays.h"

// What the readers of line-by-line traces share.
namespace lplb::replay {

inline constexpr Index kMaxLayers = 1024;

/// Reads a file line by line in one buffer, however large the file is.
class LineReader {
 public:
  /// Throws FileError where `path` is missing, a folder, or cannot be read.
  explicit LineReader(const std::string& path);

  /// The next line without its end, valid until the next call; false at the end of the file.
  bool next(std::string_view& line);
  /// Whether the file goes on with `prefix`. Reads ahead; pipes work too.
  bool starts_with(std::string_view prefix);
  bool is_on_disk() const { return file_.size() >= 0; }
  int line_number() const { return line_number_; }  ///< of the last line, from 1
  /// What messages call it: the path, or "standard input".
  const std::string& path() const { return path_; }

 private:
  bool fill();

  io::InputFile file_;
  std::string path_;
  std::vector<char> buffer_;
  std::size_t begin_ = 0, end_ = 0;  // unread part of buffer_
  int line_number_ = 0;
};

/// A file of one JSON object a line, of which some keys hold large arrays of numbers.
class JsonLines {
 public:
  explicit JsonLines(const std::string& path) : lines_(path) {}

  bool starts_with(std::string_view prefix) { return lines_.starts_with(prefix); }
  bool is_on_disk() const { return lines_.is_on_disk(); }
  /// Goes to the next line; false at the end. Throws FileError for anything but a JSON object.
  bool next();
  /// The line's object; keys of arrays() are there, with null as their values.
  io::Object object() const { return {json_, path(), where()}; }
  /// The array under `key` if it is one of `shape` (0: any length), else nullptr.
  const FlatArray* array(const std::string& key, const std::vector<std::size_t>& shape) const;
  /// The value under `key`, for what is no such array: the strict parser's.
  io::Json value(const std::string& key) const;

  const std::string& path() const { return lines_.path(); }
  std::string where() const;                                 ///< "line N"
  [[noreturn]] void fail(const std::string& problem) const;  ///< at this line

 private:
  LineReader lines_;
  std::string_view line_;
  std::string rest_;
  std::vector<FlatArray> arrays_;
  io::Json json_;
};

/// The current line's `load` [num_layers, num_logical], integers >= 0. Dimensions of `info` that
/// are 0 are set from it, the others must agree.
void read_load(const JsonLines& lines, TraceInfo& info, std::vector<Load>& load);

/// `json` as a matrix of integers >= 0 in `shape`; `key` names it in messages.
std::vector<Load> read_matrix(const JsonLines& lines, const io::Json& json, const std::string& key,
                              std::size_t rows, std::size_t columns);

/// Sums of the layers of `load`, each below 2^63. Throws FileError naming the layer.
std::vector<Load> layer_sums(const JsonLines& lines, const TraceInfo& info,
                             const std::vector<Load>& load);

/// Throws FileError unless each layer's load sums to num_tokens * num_topk.
void check_sums(const JsonLines& lines, const TraceInfo& info, const TraceStep& step);

/// `path` without its folder.
std::string file_name(const std::string& path);

}  // namespace lplb::replay
