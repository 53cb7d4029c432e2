// SPDX-License-Identifier: MIT
#include "simulate/trace/arrays.h"

#include <algorithm>
#include <cstdint>

namespace lplb::replay {
namespace {

constexpr std::size_t kMaxDepth = 3;
constexpr int kMaxDigits = 18;

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_space(char c) { return c == ' ' || c == '\t' || c == '\r'; }

/// Reads one array. at() is the current position.
class Scanner {
 public:
  Scanner(std::string_view text, std::size_t begin) : at_(text.data() + begin), end_(text.end()) {}

  const char* at() const { return at_; }

  /// Returns false if there is anything but a plain array.
  bool scan(FlatArray& array) {
    array.shape.clear();
    array.values.clear();
    for (const char* c = at_; c != end_ && (*c == '[' || is_space(*c)); ++c) {
      if (*c == '[') array.shape.push_back(0);
    }
    return !array.shape.empty() && array.shape.size() <= kMaxDepth && list(array, 0);
  }

 private:
  char peek() {
    while (at_ != end_ && is_space(*at_)) ++at_;
    return at_ == end_ ? '\0' : *at_;
  }

  /// Skips to the next element of a list. Returns '\0' if there is neither that nor the end.
  char separator() {
    const char c = peek();
    if (c != ',' && c != ']') return '\0';
    ++at_;
    return c;
  }

  bool list(FlatArray& array, std::size_t depth) {
    if (peek() != '[') return false;
    ++at_;
    const bool inner = depth + 1 == array.shape.size();
    const std::size_t before = array.values.size();
    std::size_t length = 0;
    for (char c = ','; c != ']'; c = separator()) {
      if (c == '\0' || (inner ? !numbers(array.values) : !list(array, depth + 1))) return false;
      ++length;
    }
    if (inner) length = array.values.size() - before;
    if (array.shape[depth] == 0) array.shape[depth] = length;
    return array.shape[depth] == length;
  }

  /// Reads numbers and commas, as long as nothing else comes.
  bool numbers(std::vector<Load>& values) {
    const char* c = at_;
    while (true) {
      for (; c != end_ && is_space(*c); ++c) {
      }
      const char* const first = c;
      std::uint64_t value = 0;  // may wrap if there are too many digits
      for (; c != end_ && is_digit(*c); ++c) value = 10 * value + static_cast<unsigned>(*c - '0');
      const std::ptrdiff_t digits = c - first;
      if (digits == 0 || digits > kMaxDigits || (*first == '0' && digits > 1)) return false;
      values.push_back(static_cast<Load>(value));
      if (c == end_ || *c != ',') break;
      ++c;
    }
    at_ = c;
    return true;
  }

  const char* at_;
  const char* end_;
};

/// Returns the end of the string that starts at text[begin], or npos if the string has an escape or
/// no end.
std::size_t end_of_string(std::string_view text, std::size_t begin) {
  const std::size_t end = text.find_first_of("\"\\", begin + 1);
  return end != std::string_view::npos && text[end] == '"' ? end + 1 : std::string_view::npos;
}

}  // namespace

void take_arrays(std::string_view line, const std::vector<std::string>& keys, std::string& rest,
                 std::vector<FlatArray>& arrays) {
  rest.clear();
  std::size_t taken = 0;  // how many of `arrays` are filled; their memory is used again
  std::size_t copied = 0;
  int depth = 0;
  for (std::size_t i = 0; i < line.size();) {
    const char c = line[i];
    depth += (c == '{' || c == '[') - (c == '}' || c == ']');
    if (c != '"') {
      ++i;
      continue;
    }
    const std::size_t end = end_of_string(line, i);
    if (end == std::string_view::npos) break;  // the rest is left to the strict parser
    const std::string_view name = line.substr(i + 1, end - i - 2);
    i = end;
    if (depth != 1 || std::find(keys.begin(), keys.end(), name) == keys.end()) continue;
    while (i < line.size() && is_space(line[i])) ++i;
    if (i == line.size() || line[i] != ':') continue;
    ++i;
    if (taken == arrays.size()) arrays.emplace_back();
    Scanner scanner(line, i);
    if (!scanner.scan(arrays[taken])) continue;
    arrays[taken++].key = name;
    rest.append(line, copied, i - copied);
    rest += "null";
    copied = i = static_cast<std::size_t>(scanner.at() - line.data());
  }
  arrays.resize(taken);
  rest.append(line, copied);
}

}  // namespace lplb::replay
