// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

// NumPy's .npy files of integers: format versions 1.0, 2.0 and 3.0, C order, little-endian.
namespace lplb::io {

struct NpyHeader {
  std::string dtype;  ///< as in the file: "|u1", "<i4", "<i8", ...
  std::vector<std::int64_t> shape;
  std::size_t item_size = 0;
  std::size_t data_offset = 0;

  std::int64_t num_items() const;
};

/// Parses the header at the beginning of a file. `bytes` must hold all of the header, and may end
/// after it. The number of bytes that the header implies fits int64, but is not compared with the
/// length of the file. Throws FileError.
NpyHeader parse_npy_header(std::string_view bytes, const std::string& path);

/// A whole array, with all items widened to int64.
struct NpyArray {
  NpyHeader header;
  std::vector<std::int64_t> values;
};

/// Parses a whole file. Throws FileError for everything that NpyReader refuses.
NpyArray parse_npy(std::string_view bytes, const std::string& path);

/// Reads items from front to back, so that a file may be larger than memory. Throws FileError if
/// the file is malformed or its length does not match its header.
class NpyReader {
 public:
  explicit NpyReader(const std::string& path);
  const NpyHeader& header() const { return header_; }
  /// Reads the next `count` items, widened to int64. A uint64 above 2^63 - 1 is an error.
  void read(std::int64_t* out, std::int64_t count);

 private:
  std::string path_;
  std::ifstream file_;
  NpyHeader header_;
  std::int64_t position_ = 0;
  std::vector<char> buffer_;
};

/// The bytes of a .npy file (version 1.0) with `values` in `shape`. `dtype` is "<i4" or "<i8".
std::string npy_bytes(const std::string& dtype, const std::vector<std::int64_t>& shape,
                      const std::vector<std::int64_t>& values);

}  // namespace lplb::io
