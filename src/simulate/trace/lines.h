// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "io/input.h"
#include "io/json.h"
#include "lplb/trace.h"
#include "simulate/trace/arrays.h"

// What the readers of traces of one step a line share.
namespace lplb::replay {

inline constexpr Index kMaxLayers = 1024;
/// The largest value of a number that is an Index.
inline constexpr std::int64_t kMaxNumber = std::numeric_limits<Index>::max();

/// Reads a file line by line in one buffer, however large the file is.
class LineReader {
 public:
  /// Throws FileError if `path` is missing, is a folder, or cannot be read.
  explicit LineReader(const std::string& path);

  /// Gives the next line without its end. It is valid until the next call. Returns false at the end
  /// of the file.
  bool next(std::string_view& line);
  /// Whether the next bytes of the file are `prefix`. It reads ahead, so that pipes work too.
  bool starts_with(std::string_view prefix);
  bool is_on_disk() const { return file_.size() >= 0; }
  int line_number() const { return line_number_; }  ///< the number of the last line, from 1
  /// The file's name in messages: the path, or "standard input".
  const std::string& path() const { return path_; }

 private:
  bool fill();

  io::InputFile file_;
  std::string path_;
  std::vector<char> buffer_;
  std::size_t begin_ = 0, end_ = 0;  // the unread part of buffer_
  int line_number_ = 0;
};

/// A file with one JSON object on each line. Some keys hold large arrays of numbers.
class JsonLines {
 public:
  explicit JsonLines(const std::string& path) : lines_(path) {}

  bool starts_with(std::string_view prefix) { return lines_.starts_with(prefix); }
  bool is_on_disk() const { return lines_.is_on_disk(); }
  /// Goes to the next line. Returns false at the end. Throws FileError for anything but a JSON
  /// object.
  bool next();
  /// The line's object. Keys whose arrays were taken out are there, with null as their values.
  io::Object object() const { return {json_, path(), where()}; }
  /// The array under `key` if it has this shape (0: any length), otherwise nullptr.
  const FlatArray* array(const std::string& key, const std::vector<std::size_t>& shape) const;
  /// The value under `key` as the strict parser reads it, for values that array() does not give.
  io::Json value(const std::string& key) const;

  const std::string& path() const { return lines_.path(); }
  std::string where() const;                                 ///< "line N"
  [[noreturn]] void fail(const std::string& problem) const;  ///< throws FileError at this line

 private:
  LineReader lines_;
  std::string_view line_;
  std::string rest_;
  std::vector<FlatArray> arrays_;
  io::Json json_;
};

/// Reads the current line's `load` [num_layers, num_logical], integers >= 0. Dimensions of `info`
/// that are 0 are set from it. The others must agree with it.
void read_load(const JsonLines& lines, TraceInfo& info, std::vector<Load>& load);

/// Reads `json` as a matrix [rows, columns] of integers >= 0. `key` is its name in messages.
std::vector<Load> read_matrix(const JsonLines& lines, const io::Json& json, const std::string& key,
                              std::size_t rows, std::size_t columns);

/// The sum of each layer of `load`. Throws FileError, which names the layer, if a sum is not below
/// 2^63.
std::vector<Load> layer_sums(const JsonLines& lines, const TraceInfo& info,
                             const std::vector<Load>& load);

/// Throws FileError if an expert has more than num_tokens tokens: a token goes to an expert at most
/// once.
void check_experts(const JsonLines& lines, const TraceInfo& info, const TraceStep& step);

/// Throws FileError unless the load of each layer sums to num_tokens * num_topk.
void check_sums(const JsonLines& lines, const TraceInfo& info, const TraceStep& step);

/// `path` without its folder.
std::string file_name(const std::string& path);

}  // namespace lplb::replay
