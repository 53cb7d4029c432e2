// SPDX-License-Identifier: MIT
#include "simulate/trace/arrays.h"

#include <algorithm>

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

  bool list(FlatArray& array, std::size_t depth) {
    if (peek() != '[') return false;
    ++at_;
    std::size_t length = 0;
    for (;;) {
      const bool inner = depth + 1 == array.shape.size();
      if (inner ? !number(array.values) : !list(array, depth + 1)) return false;
      ++length;
      const char c = peek();
      if (c != ',' && c != ']') return false;
      ++at_;
      if (c == ']') break;
    }
    if (array.shape[depth] == 0) array.shape[depth] = length;
    return array.shape[depth] == length;
  }

  bool number(std::vector<Load>& values) {
    if (!is_digit(peek())) return false;
    const char* first = at_;
    Load value = 0;
    for (; at_ != end_ && is_digit(*at_); ++at_) {
      if (at_ - first == kMaxDigits) return false;
      value = 10 * value + (*at_ - '0');
    }
    values.push_back(value);
    return *first != '0' || at_ - first == 1;
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
