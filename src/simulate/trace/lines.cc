// SPDX-License-Identifier: MIT
#include "simulate/trace/lines.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <limits>

#include "core/format.h"

namespace lplb::replay {
namespace {

constexpr std::size_t kFirstBuffer = std::size_t{1} << 20;
constexpr std::size_t kLongestLine = std::size_t{1} << 28;

}  // namespace

LineReader::LineReader(const std::string& path)
    : file_(path), path_(file_.name()), buffer_(kFirstBuffer) {}

/// Reads more of the file after the unread part of the buffer. Returns false at the end of the
/// file.
bool LineReader::fill() {
  if (begin_ > 0) {
    std::copy(buffer_.begin() + static_cast<std::ptrdiff_t>(begin_),
              buffer_.begin() + static_cast<std::ptrdiff_t>(end_), buffer_.begin());
    end_ -= begin_;
    begin_ = 0;
  }
  if (end_ == buffer_.size()) {
    if (buffer_.size() >= kLongestLine) {
      throw FileError(
          path_, formatted("line {}", line_number_ + 1),
          formatted("is longer than {} bytes, expected one JSON object a line", kLongestLine));
    }
    buffer_.resize(buffer_.size() * 2);
  }
  const std::size_t got = file_.read(buffer_.data() + end_, buffer_.size() - end_);
  end_ += got;
  return got > 0;
}

bool LineReader::starts_with(std::string_view prefix) {
  while (end_ - begin_ < prefix.size() && fill()) {
  }
  return std::string_view(buffer_.data() + begin_, end_ - begin_).starts_with(prefix);
}

bool LineReader::next(std::string_view& line) {
  std::size_t searched = 0;
  for (;;) {
    const char* from = buffer_.data() + begin_;
    const void* newline = std::memchr(from + searched, '\n', end_ - begin_ - searched);
    if (newline != nullptr) {
      line = {from, static_cast<std::size_t>(static_cast<const char*>(newline) - from)};
      begin_ += line.size() + 1;
      break;
    }
    searched = end_ - begin_;
    if (fill()) continue;
    if (searched == 0) return false;
    line = {buffer_.data() + begin_, searched};
    begin_ = end_;
    break;
  }
  if (line_number_ == std::numeric_limits<int>::max()) {
    throw FileError(path_, "", formatted("has more than {} lines", line_number_));
  }
  ++line_number_;
  return true;
}

bool JsonLines::next() {
  if (!lines_.next(line_)) return false;
  if (line_.find_first_not_of(" \t\r") == std::string_view::npos) {
    fail("is blank, expected a JSON object");
  }
  take_arrays(line_, {"load", "source_load"}, rest_, arrays_);
  try {
    json_ = io::parse_json(rest_, path(), lines_.line_number());
  } catch (const FileError&) {
    if (arrays_.empty()) throw;
    io::parse_json(line_, path(), lines_.line_number());  // throws again, with the right column
    throw;
  }
  if (!json_.is_object()) {
    fail(formatted("holds a JSON {}, expected an object", json_.type_name()));
  }
  return true;
}

const FlatArray* JsonLines::array(const std::string& key,
                                  const std::vector<std::size_t>& shape) const {
  for (const FlatArray& array : arrays_) {
    if (array.key != key || array.shape.size() != shape.size()) continue;
    const auto fits = [](std::size_t got, std::size_t want) { return want == 0 || got == want; };
    if (std::ranges::equal(array.shape, shape, fits)) return &array;
  }
  return nullptr;
}

io::Json JsonLines::value(const std::string& key) const {
  return io::parse_json(line_, path(), lines_.line_number()).at(key);
}

std::string JsonLines::where() const { return formatted("line {}", lines_.line_number()); }

void JsonLines::fail(const std::string& problem) const {
  throw FileError(path(), where(), problem);
}

namespace {

io::Matrix<std::int64_t> any_matrix(const JsonLines& lines, const io::Json& json,
                                    const std::string& key) {
  return io::integer_matrix(json, lines.path(), formatted("{}, key {}", lines.where(), key), 0,
                            std::numeric_limits<Load>::max(), false);
}

void check_shape(const JsonLines& lines, const std::string& key, std::size_t rows,
                 std::size_t columns, std::size_t want_rows, std::size_t want_columns) {
  if (rows == want_rows && columns == want_columns) return;
  lines.fail(formatted("key {} has shape [{}, {}], expected [{}, {}]", key, rows, columns,
                       want_rows, want_columns));
}

}  // namespace

void read_load(const JsonLines& lines, TraceInfo& info, std::vector<Load>& load) {
  lines.object().at("load");  // throws: the key is missing
  const auto layers = static_cast<std::size_t>(info.num_layers);
  const auto experts = static_cast<std::size_t>(info.num_logical_experts);
  std::size_t rows = 0, columns = 0;
  if (const FlatArray* array = lines.array("load", {layers, experts})) {
    rows = array->shape[0];
    columns = array->shape[1];
    load = array->values;
  } else {
    io::Matrix<std::int64_t> matrix = any_matrix(lines, lines.value("load"), "load");
    rows = matrix.rows;
    columns = matrix.columns;
    load = std::move(matrix.values);
  }
  if (columns > std::size_t{kMaxPhysical}) {
    lines.fail(
        formatted("key load has {} experts a layer, expected at most {}", columns, kMaxPhysical));
  }
  if (rows > std::size_t{kMaxLayers}) {
    lines.fail(formatted("key load has {} layers, expected at most {}", rows, kMaxLayers));
  }
  if (info.num_layers == 0) info.num_layers = static_cast<Index>(rows);
  if (info.num_logical_experts == 0) info.num_logical_experts = static_cast<Index>(columns);
  check_shape(lines, "load", rows, columns, static_cast<std::size_t>(info.num_layers),
              static_cast<std::size_t>(info.num_logical_experts));
}

std::vector<Load> read_matrix(const JsonLines& lines, const io::Json& json, const std::string& key,
                              std::size_t rows, std::size_t columns) {
  io::Matrix<std::int64_t> matrix = any_matrix(lines, json, key);
  check_shape(lines, key, matrix.rows, matrix.columns, rows, columns);
  return std::move(matrix.values);
}

std::vector<Load> layer_sums(const JsonLines& lines, const TraceInfo& info,
                             const std::vector<Load>& load) {
  std::vector<Load> sums(static_cast<std::size_t>(info.num_layers), 0);
  auto item = load.begin();
  for (std::size_t layer = 0; layer < sums.size(); ++layer) {
    for (Index e = 0; e < info.num_logical_experts; ++e) {
      if (__builtin_add_overflow(sums[layer], *item++, &sums[layer])) {
        lines.fail(formatted("key load[{}]: the sum passes 2^63 - 1", layer));
      }
    }
  }
  return sums;
}

void check_experts(const JsonLines& lines, const TraceInfo& info, const TraceStep& step) {
  const auto most = std::max_element(step.load.begin(), step.load.end());
  if (*most <= step.num_tokens) return;
  const std::ptrdiff_t at = most - step.load.begin();
  lines.fail(formatted(
      "key load[{}]: expert {} has {} tokens, but the step has {}, and each token "
      "goes to an expert at most once",
      at / info.num_logical_experts, at % info.num_logical_experts, *most, step.num_tokens));
}

void check_sums(const JsonLines& lines, const TraceInfo& info, const TraceStep& step) {
  const std::vector<Load> sums = layer_sums(lines, info, step.load);
  Load expected = 0;
  const bool overflow = __builtin_mul_overflow(step.num_tokens, Load{info.num_topk}, &expected);
  for (std::size_t layer = 0; layer < sums.size(); ++layer) {
    if (!overflow && sums[layer] == expected) continue;
    lines.fail(formatted("key load[{}]: sums to {}, expected num_tokens * num_topk = {} * {}",
                         layer, sums[layer], step.num_tokens, info.num_topk));
  }
}

std::string file_name(const std::string& path) {
  return std::filesystem::path(path).filename().string();
}

}  // namespace lplb::replay
