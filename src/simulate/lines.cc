// SPDX-License-Identifier: MIT
#include "simulate/lines.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <limits>

namespace lplb::replay {
namespace {

constexpr std::size_t kFirstBuffer = std::size_t{1} << 20;
constexpr std::size_t kLongestLine = std::size_t{1} << 30;

}  // namespace

LineReader::LineReader(std::string path) : path_(std::move(path)), buffer_(kFirstBuffer) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path_, ignored)) {
    throw FileError(path_, "", "is a folder, expected a trace file");
  }
  file_.open(path_, std::ios::binary);
  if (!file_) throw FileError(path_, "", fmt::format("cannot be read: {}", std::strerror(errno)));
}

/// Reads more behind the unread part; false at the end of the file.
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
          path_, fmt::format("line {}", line_number_ + 1),
          fmt::format("is longer than {} bytes, expected one JSON object a line", kLongestLine));
    }
    buffer_.resize(buffer_.size() * 2);
  }
  file_.read(buffer_.data() + end_, static_cast<std::streamsize>(buffer_.size() - end_));
  if (file_.bad()) throw FileError(path_, "", "cannot be read to its end");
  const auto got = static_cast<std::size_t>(file_.gcount());
  end_ += got;
  return got > 0;
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
    throw FileError(path_, "", fmt::format("has more than {} lines", line_number_));
  }
  ++line_number_;
  return true;
}

bool JsonLines::next(io::Json& json) {
  std::string_view line;
  if (!lines_.next(line)) return false;
  if (line.find_first_not_of(" \t\r") == std::string_view::npos) {
    fail("is blank, expected a JSON object");
  }
  json = io::parse_json(line, path(), lines_.line_number());
  if (!json.is_object()) {
    fail(fmt::format("holds a JSON {}, expected an object", json.type_name()));
  }
  return true;
}

std::string JsonLines::where() const { return fmt::format("line {}", lines_.line_number()); }

io::Object JsonLines::object(const io::Json& json) const { return {json, path(), where()}; }

void JsonLines::fail(const std::string& problem) const {
  throw FileError(path(), where(), problem);
}

void read_load(const JsonLines& lines, const io::Json& json, const std::string& key,
               TraceInfo& info, std::vector<Load>& load) {
  io::Matrix<std::int64_t> matrix =
      io::integer_matrix(json, lines.path(), fmt::format("{}, key {}", lines.where(), key), 0,
                         std::numeric_limits<Load>::max(), false);
  if (matrix.columns > std::size_t{kMaxPhysical}) {
    lines.fail(fmt::format("key {} has {} experts a layer, expected at most {}", key,
                           matrix.columns, kMaxPhysical));
  }
  if (info.num_layers == 0) info.num_layers = static_cast<Index>(matrix.rows);
  if (info.num_logical_experts == 0) {
    info.num_logical_experts = static_cast<Index>(matrix.columns);
  }
  const auto layers = static_cast<std::size_t>(info.num_layers);
  const auto experts = static_cast<std::size_t>(info.num_logical_experts);
  if (matrix.rows != layers || matrix.columns != experts) {
    lines.fail(
        fmt::format("key {} has shape [{}, {}], expected [num_layers, num_logical_experts]"
                    " = [{}, {}]",
                    key, matrix.rows, matrix.columns, layers, experts));
  }
  load = std::move(matrix.values);
}

std::vector<Load> layer_sums(const JsonLines& lines, const TraceInfo& info,
                             const std::vector<Load>& load) {
  std::vector<Load> sums(static_cast<std::size_t>(info.num_layers), 0);
  auto item = load.begin();
  for (std::size_t layer = 0; layer < sums.size(); ++layer) {
    for (Index e = 0; e < info.num_logical_experts; ++e) {
      if (__builtin_add_overflow(sums[layer], *item++, &sums[layer])) {
        lines.fail(fmt::format("key load[{}]: the sum passes 2^63 - 1", layer));
      }
    }
  }
  return sums;
}

void check_sums(const JsonLines& lines, const TraceInfo& info, const TraceStep& step) {
  const std::vector<Load> sums = layer_sums(lines, info, step.load);
  Load expected = 0;
  const bool overflow = __builtin_mul_overflow(step.num_tokens, Load{info.num_topk}, &expected);
  for (std::size_t layer = 0; layer < sums.size(); ++layer) {
    if (!overflow && sums[layer] == expected) continue;
    lines.fail(fmt::format("key load[{}]: sums to {}, expected num_tokens * num_topk = {} * {}",
                           layer, sums[layer], step.num_tokens, info.num_topk));
  }
}

std::string file_name(const std::string& path) {
  return std::filesystem::path(path).filename().string();
}

}  // namespace lplb::replay
