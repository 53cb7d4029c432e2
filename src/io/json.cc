// SPDX-License-Identifier: MIT
#include "io/json.h"

#include <algorithm>
#include <cmath>
#include <iterator>

#include "core/format.h"
#include "io/text.h"
#include "lplb/error.h"

namespace lplb::io {
namespace {

constexpr std::size_t kMaxDepth = 16;
constexpr std::size_t kQuoteLength = 60;

/// Walks over the text, and keeps in `reached` how far the parser has read, because the parser's
/// events do not say where in the text they are.
class Cursor {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  Cursor(const char* at, const char** reached) : at_(at), reached_(reached) {}
  reference operator*() const { return *at_; }
  Cursor& operator++() {
    *reached_ = ++at_;
    return *this;
  }
  Cursor operator++(int) {
    Cursor old = *this;
    ++*this;
    return old;
  }
  friend bool operator==(const Cursor& a, const Cursor& b) { return a.at_ == b.at_; }

 private:
  const char* at_;
  const char** reached_;
};

/// Builds the value as nlohmann's own parser would, but refuses what is probably a mistake.
class StrictSax : public nlohmann::json_sax<Json> {
 public:
  StrictSax(std::string_view text, const std::string& path, int first_line)
      : text_(text), path_(path), first_line_(first_line) {}

  Json parse() {
    const char* const begin = text_.data();
    Json::sax_parse(Cursor(begin, &reached_), Cursor(begin + text_.size(), &reached_), this);
    return std::move(root_);
  }

  bool null() override { return add(Json(nullptr)); }
  bool boolean(bool value) override { return add(Json(value)); }
  bool number_integer(number_integer_t value) override { return add(Json(value)); }
  bool number_unsigned(number_unsigned_t value) override { return add(Json(value)); }
  bool number_float(number_float_t value, const string_t&) override { return add(Json(value)); }
  bool string(string_t& value) override { return add(Json(std::move(value))); }
  bool binary(binary_t&) override { return false; }  // does not occur in text
  bool start_object(std::size_t) override { return open(Json::object()); }
  bool start_array(std::size_t) override { return open(Json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(string_t& name) override {
    if (stack_.back()->contains(name)) {
      throw FileError(path_, where(), formatted("key {} stands twice", quote(name)));
    }
    key_ = std::move(name);
    return true;
  }

  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception& error) override {
    // what() is "[json.exception...] parse error at line 1, column 2: syntax error while ...".
    std::string problem = error.what();
    if (const auto at = problem.find(": "); at != std::string::npos) problem.erase(0, at + 2);
    if (const auto at = problem.find("] "); problem.front() == '[' && at != std::string::npos) {
      problem.erase(0, at + 2);
    }
    throw FileError(path_, place_of(position), "not valid JSON: " + printable(problem));
  }

 private:
  bool add(Json value) {
    if (stack_.empty()) {
      root_ = std::move(value);
      return true;
    }
    Json& parent = *stack_.back();
    if (parent.is_array()) {
      parent.push_back(std::move(value));
    } else {
      parent.emplace(std::move(key_), std::move(value));
    }
    return true;
  }

  bool open(Json value) {
    if (stack_.size() >= kMaxDepth) {
      throw FileError(path_, where(), formatted("nested deeper than {} levels", kMaxDepth));
    }
    if (stack_.empty()) {
      root_ = std::move(value);
      stack_.push_back(&root_);
      return true;
    }
    Json& parent = *stack_.back();
    // NOTE: pointers into the parent stay valid, because it gets no other child before close().
    stack_.push_back(parent.is_array() ? &parent.emplace_back(std::move(value))
                                       : &*parent.emplace(std::move(key_), std::move(value)).first);
    return true;
  }

  bool close() {
    stack_.pop_back();
    return true;
  }

  /// The place of the last byte that was read.
  std::string where() const { return place_of(static_cast<std::size_t>(reached_ - text_.data())); }

  std::string place_of(std::size_t position) const {
    const std::string_view before = text_.substr(0, position == 0 ? 0 : position - 1);
    const auto line = std::count(before.begin(), before.end(), '\n');
    const auto newline = before.rfind('\n');
    const std::size_t column =
        newline == std::string_view::npos ? before.size() + 1 : before.size() - newline;
    return formatted("line {}, column {}", first_line_ + line, column);
  }

  std::string_view text_;
  const std::string& path_;
  int first_line_;
  const char* reached_ = text_.data();
  Json root_;
  std::vector<Json*> stack_;
  std::string key_;
};

std::string indexed(const std::string& where, std::size_t i) {
  return formatted("{}[{}]", where, i);
}

/// Calls read(entry, where) for each entry of a matrix, and checks the shape of the matrix.
template <class T, class Read>
Matrix<T> read_matrix(const Json& value, const std::string& path, const std::string& where,
                      bool flat_is_one_row, const Read& read) {
  if (!value.is_array()) {
    throw FileError(path, where, formatted("is {}, expected a list of lists", describe(value)));
  }
  if (value.empty()) throw FileError(path, where, "is an empty list, expected at least one row");
  Matrix<T> matrix;
  const auto read_row = [&](const Json& row, const std::string& row_where) {
    if (!row.is_array()) {
      throw FileError(path, row_where, formatted("is {}, expected a list", describe(row)));
    }
    if (row.empty()) throw FileError(path, row_where, "is an empty list");
    if (matrix.rows > 0 && row.size() != matrix.columns) {
      throw FileError(path, row_where,
                      formatted("has {} entries, expected {} like the rows before", row.size(),
                                matrix.columns));
    }
    matrix.columns = row.size();
    for (std::size_t i = 0; i < row.size(); ++i) {
      matrix.values.push_back(read(row[i], [&] { return indexed(row_where, i); }));
    }
    ++matrix.rows;
  };
  if (flat_is_one_row && !value.front().is_array()) {
    read_row(value, where);
    return matrix;
  }
  for (std::size_t i = 0; i < value.size(); ++i) read_row(value[i], indexed(where, i));
  return matrix;
}

template <class Where>
std::int64_t read_integer(const Json& value, const std::string& path, const Where& where,
                          std::int64_t low, std::int64_t high) {
  const bool fits = value.is_number_unsigned()
                        ? value.get<std::uint64_t>() <= static_cast<std::uint64_t>(INT64_MAX)
                        : value.is_number_integer();
  if (fits) {
    const auto number = value.get<std::int64_t>();
    if (number >= low && number <= high) return number;
  }
  const std::string range = low == high         ? formatted("{}", low)
                            : high == INT64_MAX ? formatted("an integer from {} to 2^63 - 1", low)
                                                : formatted("an integer from {} to {}", low, high);
  throw FileError(path, where(), formatted("is {}, expected {}", describe(value), range));
}

}  // namespace

std::string quote(std::string_view text) {
  return formatted("\"{}\"", printable(text, kQuoteLength));
}

std::string describe(const Json& value) {
  if (value.is_string()) return quote(value.get_ref<const std::string&>());
  if (value.is_array()) return "a list";
  if (value.is_object()) return "an object";
  return value.dump();
}

Json parse_json(std::string_view text, const std::string& path, int first_line) {
  if (text.find_first_not_of(" \t\r\n") == std::string_view::npos) {
    throw FileError(path, first_line > 1 ? formatted("line {}", first_line) : "",
                    "is empty, expected JSON");
  }
  return StrictSax(text, path, first_line).parse();
}

Object::Object(const Json& json, std::string path, std::string where)
    : json_(json), path_(std::move(path)), where_(std::move(where)) {
  if (!json_.is_object()) {
    throw FileError(path_, where_, formatted("is {}, expected an object", describe(json_)));
  }
}

void Object::allow_only(const std::vector<std::string>& known) const {
  for (const auto& item : json_.items()) {
    if (std::find(known.begin(), known.end(), item.key()) != known.end()) continue;
    throw FileError(path_, where_,
                    formatted("key {} is unknown, expected one of {}", quote(item.key()),
                              fmt::join(known, ", ")));
  }
}

bool Object::has(const std::string& key) const { return json_.contains(key); }

const Json& Object::at(const std::string& key) const {
  const auto found = json_.find(key);
  if (found == json_.end()) {
    throw FileError(path_, where_, formatted("key \"{}\" is missing", key));
  }
  return *found;
}

std::string Object::place_of(const std::string& key) const {
  return where_.empty() ? "key " + key : formatted("{}, key {}", where_, key);
}

std::int64_t Object::integer(const std::string& key, std::int64_t low, std::int64_t high) const {
  return read_integer(
      at(key), path_, [&] { return place_of(key); }, low, high);
}

std::int64_t Object::entry(const std::string& key, std::size_t i, std::int64_t low,
                           std::int64_t high) const {
  return read_integer(
      at(key)[i], path_, [&] { return indexed(place_of(key), i); }, low, high);
}

std::string Object::string(const std::string& key) const {
  const Json& value = at(key);
  if (!value.is_string()) fail(key, formatted("is {}, expected a string", describe(value)));
  return value.get<std::string>();
}

void Object::fail(const std::string& key, const std::string& problem) const {
  throw FileError(path_, place_of(key), problem);
}

Matrix<std::int64_t> integer_matrix(const Json& value, const std::string& path,
                                    const std::string& where, std::int64_t low, std::int64_t high,
                                    bool flat_is_one_row) {
  return read_matrix<std::int64_t>(value, path, where, flat_is_one_row,
                                   [&](const Json& entry, const auto& entry_where) {
                                     return read_integer(entry, path, entry_where, low, high);
                                   });
}

std::vector<std::vector<std::int64_t>> integer_rows(const Json& value, const std::string& path,
                                                    const std::string& where, std::int64_t low,
                                                    std::int64_t high) {
  const bool nested = value.is_array() && !value.empty() && value.front().is_array();
  if (!nested) return {integer_matrix(value, path, where, low, high, true).values};
  std::vector<std::vector<std::int64_t>> rows;
  for (std::size_t i = 0; i < value.size(); ++i) {
    const std::string row_where = indexed(where, i);
    const Json& row = value[i];
    if (!row.is_array()) {
      throw FileError(path, row_where, formatted("is {}, expected a list", describe(row)));
    }
    if (row.empty()) throw FileError(path, row_where, "is an empty list");
    rows.emplace_back();
    for (std::size_t k = 0; k < row.size(); ++k) {
      rows.back().push_back(read_integer(
          row[k], path, [&] { return indexed(row_where, k); }, low, high));
    }
  }
  return rows;
}

Matrix<double> real_matrix(const Json& value, const std::string& path, const std::string& where,
                           bool flat_is_one_row) {
  return read_matrix<double>(
      value, path, where, flat_is_one_row, [&](const Json& entry, const auto& entry_where) {
        const double number = entry.is_number() ? entry.get<double>() : -1;
        if (number >= 0 && std::isfinite(number)) return number;
        throw FileError(path, entry_where(),
                        formatted("is {}, expected a number >= 0", describe(entry)));
      });
}

}  // namespace lplb::io
