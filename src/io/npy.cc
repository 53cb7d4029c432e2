// SPDX-License-Identifier: MIT
#include "io/npy.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <limits>

#include "core/format.h"
#include "io/system_error.h"
#include "io/text.h"
#include "lplb/error.h"

// numpy.org/doc/stable/reference/generated/numpy.lib.format.html describes the format.
namespace lplb::io {
namespace {

static_assert(std::endian::native == std::endian::little, "items are copied as they lie");

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr std::size_t kMaxHeader = 65535;
constexpr std::size_t kMaxDimensions = 32;
constexpr std::size_t kAlignment = 64;
constexpr std::int64_t kChunkItems = 8192;

/// Scans the header, a Python dict with three keys: {'descr': '<i4', 'fortran_order': False,
/// 'shape': (3, 4), }.
class HeaderScanner {
 public:
  HeaderScanner(std::string_view text, const std::string& path) : text_(text), path_(path) {}

  NpyHeader scan() {
    NpyHeader header;
    bool fortran = false;
    std::array<bool, 3> seen{};
    expect('{');
    while (!accept('}')) {
      const std::string key = quoted();
      expect(':');
      const std::size_t which = key == "descr" ? 0 : key == "fortran_order" ? 1 : 2;
      if (which == 2 && key != "shape") fail(formatted("unknown key '{}'", printable(key, 40)));
      if (seen[which]) fail(formatted("key '{}' appears twice", key));
      seen[which] = true;
      if (which == 0) header.dtype = descr();
      if (which == 1) fortran = boolean();
      if (which == 2) header.shape = tuple();
      if (accept(',')) continue;
      expect('}');
      break;
    }
    skip_space();
    if (at_ != text_.size()) fail("text after the closing brace");
    if (!seen[0] || !seen[1] || !seen[2]) fail("expected the keys descr, fortran_order and shape");
    if (fortran) fail("fortran_order is True, expected C order");
    return header;
  }

 private:
  [[noreturn]] void fail(const std::string& problem) const {
    throw FileError(path_, "header", problem);
  }

  void skip_space() {
    while (at_ < text_.size() && std::strchr(" \t\r\n", text_[at_]) != nullptr && text_[at_] != 0) {
      ++at_;
    }
  }

  bool accept(char c) {
    skip_space();
    if (at_ == text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }

  void expect(char c) {
    if (accept(c)) return;
    fail(formatted("expected '{}' at \"{}\"", c, printable(text_.substr(at_), 20)));
  }

  std::string quoted() {
    const char quote = accept('"') ? '"' : '\'';
    if (quote == '\'') expect('\'');
    const std::size_t end = text_.find(quote, at_);
    if (end == std::string_view::npos) fail("a string has no end");
    const std::string out(text_.substr(at_, end - at_));
    at_ = end + 1;
    return out;
  }

  std::string descr() {
    skip_space();
    if (at_ < text_.size() && text_[at_] == '[') fail("has records, expected one integer an item");
    return quoted();
  }

  bool boolean() {
    skip_space();
    for (const std::string_view word : {"True", "False"}) {
      if (!text_.substr(at_).starts_with(word)) continue;
      at_ += word.size();
      return word == "True";
    }
    fail("fortran_order is neither True nor False");
  }

  std::vector<std::int64_t> tuple() {
    std::vector<std::int64_t> out;
    expect('(');
    bool comma = false;
    while (!accept(')')) {
      if (!out.empty() && !comma) expect(',');
      if (out.size() == kMaxDimensions) {
        fail(formatted("more than {} dimensions", kMaxDimensions));
      }
      skip_space();
      std::int64_t size = 0;
      const char* begin = text_.data() + at_;
      const auto [end, error] = std::from_chars(begin, text_.data() + text_.size(), size);
      if (error != std::errc() || size < 0) {
        fail(formatted("shape holds \"{}\", expected integers from 0 to 2^63 - 1",
                       printable(text_.substr(at_, 24), 24)));
      }
      at_ += static_cast<std::size_t>(end - begin);
      out.push_back(size);
      comma = accept(',');
    }
    if (out.size() == 1 && !comma) fail("shape is a number, expected a tuple");
    return out;
  }

  std::string_view text_;
  const std::string& path_;
  std::size_t at_ = 0;
};

/// The bytes of an item; 0 if this library does not read the type.
std::size_t item_size(const std::string& dtype) {
  if (dtype.size() != 3 || (dtype[1] != 'i' && dtype[1] != 'u')) return 0;
  const bool little = dtype[0] == '<';
  switch (dtype[2]) {
    case '1':
      return little || dtype[0] == '|' ? 1 : 0;
    case '2':
    case '4':
    case '8':
      return little ? static_cast<std::size_t>(dtype[2] - '0') : 0;
    default:
      return 0;
  }
}

template <class T>
void widen(const char* bytes, std::int64_t* out, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) {
    T item;
    std::memcpy(&item, bytes + static_cast<std::size_t>(i) * sizeof(T), sizeof(T));
    out[i] = static_cast<std::int64_t>(item);  // NOLINT(bugprone-signed-char-misuse): an int8
  }
}

/// Converts `count` items of `bytes` to `out`. `position` is the index of the first one in the
/// file.
void decode(const NpyHeader& header, const char* bytes, std::int64_t count, std::int64_t position,
            std::int64_t* out, const std::string& path) {
  const bool is_signed = header.dtype[1] == 'i';
  switch (header.item_size) {
    case 1:
      return is_signed ? widen<std::int8_t>(bytes, out, count)
                       : widen<std::uint8_t>(bytes, out, count);
    case 2:
      return is_signed ? widen<std::int16_t>(bytes, out, count)
                       : widen<std::uint16_t>(bytes, out, count);
    case 4:
      return is_signed ? widen<std::int32_t>(bytes, out, count)
                       : widen<std::uint32_t>(bytes, out, count);
    default:
      widen<std::int64_t>(bytes, out, count);
  }
  if (is_signed) return;
  const std::int64_t* bad = std::find_if(out, out + count, [](std::int64_t v) { return v < 0; });
  if (bad == out + count) return;
  throw FileError(path, formatted("item {}", position + (bad - out)),
                  formatted("{} passes 2^63 - 1", static_cast<std::uint64_t>(*bad)));
}

/// Throws FileError if a file of `size` bytes is not exactly as long as its header says.
void check_length(const NpyHeader& header, std::uintmax_t size, const std::string& path) {
  const std::uintmax_t expected =
      header.data_offset + static_cast<std::uintmax_t>(header.num_items()) * header.item_size;
  if (size == expected) return;
  throw FileError(path, "", formatted("has {} bytes, its header promises {}", size, expected));
}

}  // namespace

std::int64_t NpyHeader::num_items() const {
  std::int64_t items = 1;
  for (const std::int64_t size : shape) items *= size;
  return items;
}

NpyHeader parse_npy_header(std::string_view bytes, const std::string& path) {
  if (bytes.empty()) throw FileError(path, "", "is empty, expected a .npy file");
  if (!bytes.starts_with(kMagic)) {
    throw FileError(path, "byte 0", "is not the beginning of a .npy file");
  }
  const auto byte = [&](std::size_t i) -> std::size_t {
    if (i >= bytes.size()) throw FileError(path, formatted("byte {}", i), "the header is cut off");
    return static_cast<unsigned char>(bytes[i]);
  };
  const std::size_t major = byte(6);
  const std::size_t minor = byte(7);
  if (major < 1 || major > 3 || minor != 0) {
    throw FileError(path, "byte 6",
                    formatted("format version {}.{}, expected 1.0, 2.0 or 3.0", major, minor));
  }
  std::size_t length = byte(8) | byte(9) << 8;
  if (major > 1) length |= byte(10) << 16 | byte(11) << 24;
  const std::size_t begin = major > 1 ? 12 : 10;
  if (length > kMaxHeader) {
    throw FileError(path, "byte 8",
                    formatted("a header of {} bytes, expected at most {}", length, kMaxHeader));
  }
  if (length > 0) byte(begin + length - 1);

  NpyHeader header = HeaderScanner(bytes.substr(begin, length), path).scan();
  header.data_offset = begin + length;
  header.item_size = item_size(header.dtype);
  if (header.item_size == 0) {
    throw FileError(path, "header",
                    formatted("dtype '{}', expected little-endian integers such as '<i4'",
                              printable(header.dtype, 40)));
  }
  // NOTE: a size of 0 counts as 1 here. Otherwise it would hide an overflow of the other sizes.
  std::int64_t total = static_cast<std::int64_t>(header.item_size);
  for (const std::int64_t size : header.shape) {
    if (__builtin_mul_overflow(total, std::max<std::int64_t>(size, 1), &total) ||
        total > std::numeric_limits<std::int64_t>::max() / 2) {
      throw FileError(path, "header", "shape: the number of bytes passes 2^62");
    }
  }
  return header;
}

NpyArray parse_npy(std::string_view bytes, const std::string& path) {
  NpyArray array;
  array.header = parse_npy_header(bytes, path);
  check_length(array.header, bytes.size(), path);
  array.values.resize(static_cast<std::size_t>(array.header.num_items()));
  decode(array.header, bytes.data() + array.header.data_offset, array.header.num_items(), 0,
         array.values.data(), path);
  return array;
}

NpyReader::NpyReader(const std::string& path) : path_(path) {
  std::error_code error;
  const std::filesystem::file_status status = std::filesystem::status(path, error);
  if (std::filesystem::is_directory(status)) {
    throw FileError(path, "", "is a folder, expected a .npy file");
  }
  if (std::filesystem::exists(status) && !std::filesystem::is_regular_file(status)) {
    throw FileError(path, "", "is a pipe or a device, expected a regular .npy file");
  }
  file_.open(path, std::ios::binary);
  const std::uintmax_t size = file_ ? std::filesystem::file_size(path, error) : 0;
  if (!file_ || error) {
    throw SystemError(path, "cannot be read", error ? error.value() : errno);
  }
  std::string head(std::min<std::uintmax_t>(size, kMaxHeader + 12), '\0');
  file_.read(head.data(), static_cast<std::streamsize>(head.size()));
  header_ = parse_npy_header(head, path);
  check_length(header_, size, path);
  file_.clear();
  file_.seekg(static_cast<std::streamoff>(header_.data_offset));
}

void NpyReader::read(std::int64_t* out, std::int64_t count) {
  if (count > header_.num_items() - position_) {
    throw FileError(path_, formatted("item {}", header_.num_items()), "there are no more items");
  }
  while (count > 0) {
    const std::int64_t part = std::min(count, kChunkItems);
    buffer_.resize(static_cast<std::size_t>(part) * header_.item_size);
    if (!file_.read(buffer_.data(), static_cast<std::streamsize>(buffer_.size()))) {
      throw FileError(path_, formatted("item {}", position_), "cannot be read: the file ended");
    }
    decode(header_, buffer_.data(), part, position_, out, path_);
    position_ += part;
    out += part;
    count -= part;
  }
}

std::string npy_bytes(const std::string& dtype, const std::vector<std::int64_t>& shape,
                      const std::vector<std::int64_t>& values) {
  std::string dict = formatted("{{'descr': '{}', 'fortran_order': False, 'shape': (", dtype);
  for (std::size_t i = 0; i < shape.size(); ++i) {
    dict += formatted("{}{}", i == 0 ? "" : ", ", shape[i]);
  }
  dict += shape.size() == 1 ? ",), }" : "), }";
  const std::size_t begin = kMagic.size() + 4;
  const std::size_t padding = kAlignment - (begin + dict.size() + 1) % kAlignment;
  dict += std::string(padding % kAlignment, ' ') + '\n';

  std::string bytes(kMagic);
  bytes += {'\1', '\0', static_cast<char>(dict.size() & 0xFF), static_cast<char>(dict.size() >> 8)};
  bytes += dict;
  const std::size_t size = item_size(dtype);
  const std::size_t data = bytes.size();
  bytes.resize(data + values.size() * size);
  for (std::size_t i = 0; i < values.size(); ++i) {
    std::memcpy(bytes.data() + data + i * size, &values[i], size);
  }
  return bytes;
}

}  // namespace lplb::io
