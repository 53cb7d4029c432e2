// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

// NumPy's .npy files, format versions 1.0, 2.0 and 3.0, C order, integers, little-endian.
namespace lplb::io {

struct NpyHeader {
  std::string dtype;  ///< as in the file: "|u1", "<i4", "<i8", ...
  std::vector<std::int64_t> shape;
  std::size_t item_size = 0;
  std::size_t data_offset = 0;

  std::int64_t num_items() const;
};

/// The header that `bytes`, the beginning of a file, holds; what follows it may be cut off. Its
/// sizes fit int64 and are not yet held against the file's length. Throws FileError.
NpyHeader parse_npy_header(std::string_view bytes, const std::string& path);

/// A whole array, its items widened to int64.
struct NpyArray {
  NpyHeader header;
  std::vector<std::int64_t> values;
};

/// `bytes` is the whole file. Throws FileError for what NpyReader refuses.
NpyArray parse_npy(std::string_view bytes, const std::string& path);

/// Reads item by item from the front: a file larger than memory streams. Throws FileError for
/// anything but a well-formed file whose length matches its header.
class NpyReader {
 public:
  explicit NpyReader(const std::string& path);
  const NpyHeader& header() const { return header_; }
  /// The next `count` items, widened to int64 (uint64 above 2^63 - 1 is an error).
  void read(std::int64_t* out, std::int64_t count);

 private:
  std::string path_;
  std::ifstream file_;
  NpyHeader header_;
  std::int64_t position_ = 0;
  std::vector<char> buffer_;
};

/// Bytes of a .npy file (version 1.0) holding `values` as `dtype` ("<i4" or "<i8") in `shape`.
std::string npy_bytes(const std::string& dtype, const std::vector<std::int64_t>& shape,
                      const std::vector<std::int64_t>& values);

}  // namespace lplb::io
