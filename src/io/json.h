// SPDX-License-Identifier: MIT
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "lplb/types.h"

// A strict reader of JSON. It refuses some texts that nlohmann's parser accepts, but that are
// probably mistakes. Every problem is a FileError that names the file, the place, the value and
// what was expected.
namespace lplb::io {

using Json = nlohmann::json;

/// Parses `text`. Refuses duplicate keys, nesting deeper than 16, text after the value, and numbers
/// beyond the range of a double. `first_line` is the line number of the text in `path`, for files
/// that have a value on each line.
Json parse_json(std::string_view text, const std::string& path, int first_line = 1);

/// For messages: `text` in quotes, cut if it is long.
std::string quote(std::string_view text);
/// For messages: the value itself ("1.5"), or "a list" or "an object".
std::string describe(const Json& value);

/// Reads a whole file; "-" is standard input. Refuses folders, and files of more than `max_bytes`.
std::string read_file(const std::string& path, std::size_t max_bytes = std::size_t{1} << 31);

/// A view of one object of a file, with access by key that checks types. Unknown keys can be
/// refused.
class Object {
 public:
  /// `where` is the object's place in the file, such as "line 3"; empty for the top object.
  Object(const Json& json, std::string path, std::string where = "");

  /// Throws FileError if there is a key that is not in `known`; it names the first one.
  void allow_only(const std::vector<std::string>& known) const;
  bool has(const std::string& key) const;

  /// An integer in [low, high]. Fractions, exponents and huge numbers are refused.
  std::int64_t integer(const std::string& key, std::int64_t low, std::int64_t high) const;
  /// Entry i of a list, in the same way.
  std::int64_t entry(const std::string& key, std::size_t i, std::int64_t low,
                     std::int64_t high) const;
  std::string string(const std::string& key) const;
  const Json& at(const std::string& key) const;

  /// The place of a key, for messages: "line 3, key load".
  std::string place_of(const std::string& key) const;
  [[noreturn]] void fail(const std::string& key, const std::string& problem) const;

 private:
  const Json& json_;
  std::string path_;
  std::string where_;
};

/// A matrix of integers or real numbers, in JSON [[...], ...]. All rows have the same length.
template <class T>
struct Matrix {
  std::size_t rows = 0;
  std::size_t columns = 0;
  std::vector<T> values;
};

/// `value` as a matrix of integers in [low, high]. `where` names it in messages ("key load"). A
/// flat list is one row if `flat_is_one_row`, otherwise an error. An empty matrix, and rows of
/// different lengths, are errors.
Matrix<std::int64_t> integer_matrix(const Json& value, const std::string& path,
                                    const std::string& where, std::int64_t low, std::int64_t high,
                                    bool flat_is_one_row);
/// The same for rows that may have different lengths. A flat list is one row.
std::vector<std::vector<std::int64_t>> integer_rows(const Json& value, const std::string& path,
                                                    const std::string& where, std::int64_t low,
                                                    std::int64_t high);
/// As integer_matrix(), for finite numbers >= 0.
Matrix<double> real_matrix(const Json& value, const std::string& path, const std::string& where,
                           bool flat_is_one_row);

}  // namespace lplb::io
