// SPDX-License-Identifier: MIT
#include "io/npy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>

#include "io/output.h"
#include "lplb/error.h"
#include "support/test_files.h"

namespace lplb::io {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

/// A file of version 1.0 with `dict` as its header, followed by `data`.
std::string file_of(const std::string& dict, const std::string& data) {
  std::string bytes = "\x93NUMPY";
  bytes += {'\1', '\0', static_cast<char>(dict.size() & 0xFF), static_cast<char>(dict.size() >> 8)};
  return bytes + dict + data;
}

std::string dict_of(const std::string& dtype, const std::string& shape) {
  return "{'descr': '" + dtype + "', 'fortran_order': False, 'shape': " + shape + ", }\n";
}

template <class T>
std::string bytes_of(std::initializer_list<T> items) {
  std::string bytes;
  for (const T item : items) {
    char raw[sizeof(T)];
    std::memcpy(raw, &item, sizeof(T));
    bytes.append(raw, sizeof(T));
  }
  return bytes;
}

std::string problem_of(const std::string& bytes) {
  try {
    parse_npy(bytes, "f");
  } catch (const FileError& error) {
    return error.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return "";
}

TEST(ParseNpy, ReadsEveryIntegerType) {
  const auto values = [](const std::string& dtype, const std::string& data) {
    return parse_npy(file_of(dict_of(dtype, "(2,)"), data), "f").values;
  };
  EXPECT_THAT(values("|u1", bytes_of<std::uint8_t>({0, 255})), ElementsAre(0, 255));
  EXPECT_THAT(values("|i1", bytes_of<std::int8_t>({-1, 127})), ElementsAre(-1, 127));
  EXPECT_THAT(values("<u2", bytes_of<std::uint16_t>({0, 65535})), ElementsAre(0, 65535));
  EXPECT_THAT(values("<i2", bytes_of<std::int16_t>({-1, 9})), ElementsAre(-1, 9));
  EXPECT_THAT(values("<u4", bytes_of<std::uint32_t>({0, 4294967295U})), ElementsAre(0, 4294967295));
  EXPECT_THAT(values("<i4", bytes_of<std::int32_t>({-1, 9})), ElementsAre(-1, 9));
  EXPECT_THAT(values("<i8", bytes_of<std::int64_t>({INT64_MIN, INT64_MAX})),
              ElementsAre(INT64_MIN, INT64_MAX));
  EXPECT_THAT(values("<u8", bytes_of<std::uint64_t>({0, INT64_MAX})), ElementsAre(0, INT64_MAX));
}

TEST(ParseNpy, ReadsShapesAndVersions) {
  const auto shape = [](const std::string& text, std::size_t items) {
    return parse_npy(file_of(dict_of("|u1", text), std::string(items, '\0')), "f").header.shape;
  };
  EXPECT_THAT(shape("()", 1), ElementsAre());
  EXPECT_THAT(shape("(3,)", 3), ElementsAre(3));
  EXPECT_THAT(shape("(2, 3)", 6), ElementsAre(2, 3));
  EXPECT_THAT(shape("( 2 ,0, 3, )", 0), ElementsAre(2, 0, 3));
  // Keys may be in any order, and in either kind of quotes.
  EXPECT_EQ(parse_npy(file_of(R"({"shape":(1,),"fortran_order":False,"descr":"|u1"})", "x"), "f")
                .values[0],
            'x');
  std::string later = file_of(dict_of("|u1", "(1,)"), "x");
  later[6] = '\2';
  later.insert(10, 2, '\0');
  EXPECT_EQ(parse_npy(later, "f").values[0], 'x');
  later[6] = '\3';
  EXPECT_EQ(parse_npy(later, "f").values[0], 'x');
}

TEST(ParseNpy, RefusesWhatItCannotRead) {
  const std::string good = file_of(dict_of("<i4", "(2,)"), std::string(8, '\0'));
  ASSERT_NO_THROW(parse_npy(good, "f"));
  EXPECT_THAT(problem_of(good.substr(0, good.size() - 1)), HasSubstr("header promises"));
  EXPECT_THAT(problem_of(good + "x"), HasSubstr("header promises"));
  EXPECT_THAT(problem_of(file_of(dict_of(">i4", "(1,)"), "0000")), HasSubstr("'>i4'"));
  EXPECT_THAT(problem_of(file_of(dict_of("<f4", "(1,)"), "0000")), HasSubstr("'<f4'"));
  EXPECT_THAT(problem_of(file_of(dict_of("|i4", "(1,)"), "0000")), HasSubstr("'|i4'"));
  EXPECT_THAT(problem_of(file_of(dict_of("<i4", "(1)"), "0000")), HasSubstr("tuple"));
  EXPECT_THAT(problem_of(file_of(dict_of("<i4", "(-1,)"), "")), HasSubstr("\"-1,)"));
  EXPECT_THAT(problem_of(file_of(dict_of("<i4", "(1 1)"), "")), HasSubstr("expected ','"));
  EXPECT_THAT(problem_of(file_of(dict_of("|u1", "(4611686018427387904, 2, 0)"), "")),
              HasSubstr("2^62"));
  EXPECT_THAT(problem_of(file_of(dict_of("<u8", "(1,)"), std::string(8, '\xff'))),
              HasSubstr("item 0: 18446744073709551615 passes 2^63 - 1"));
  EXPECT_THAT(problem_of(file_of("{'descr': '<i4', 'fortran_order': True, 'shape': (), }", "0000")),
              HasSubstr("C order"));
  EXPECT_THAT(problem_of(file_of("{'descr': '<i4', 'fortran_order': False, 'shape': (), } x", "")),
              HasSubstr("closing brace"));
  EXPECT_THAT(problem_of(file_of("{'descr': '<i4', 'fortran_order': False, }", "")),
              HasSubstr("expected the keys"));
}

TEST(ParseNpy, EveryCutAndEveryChangedByteIsReadOrRefused) {
  const std::string good = npy_bytes("<i4", {2, 3}, {1, 2, 3, 4, 5, -1});
  for (std::size_t size = 0; size < good.size(); ++size) {
    EXPECT_THROW(parse_npy(good.substr(0, size), "f"), FileError) << size;
  }
  for (std::size_t at = 0; at < good.size(); ++at) {
    for (const int change : {1, 16, 255}) {
      std::string bytes = good;
      bytes[at] = static_cast<char>(bytes[at] ^ change);
      try {
        EXPECT_EQ(parse_npy(bytes, "f").values.size(), 6U);
      } catch (const FileError&) {
        // It may be refused, too.
      }
    }
  }
}

TEST(NpyBytes, AreReadBackAndAligned) {
  const std::vector<std::vector<std::int64_t>> shapes = {{6}, {2, 3}, {1, 1, 1, 6}, {0, 4}, {}};
  for (const auto& shape : shapes) {
    for (const char* dtype : {"<i4", "<i8"}) {
      std::int64_t items = 1;
      for (const std::int64_t size : shape) items *= size;
      const std::vector<std::int64_t> values(static_cast<std::size_t>(items), -7);
      const NpyArray array = parse_npy(npy_bytes(dtype, shape, values), "f");
      EXPECT_EQ(array.header.dtype, dtype);
      EXPECT_EQ(array.header.shape, shape);
      EXPECT_EQ(array.header.data_offset % 64, 0U);
      EXPECT_EQ(array.values, values);
    }
  }
}

class NpyReaderTest : public testing::Files {};

TEST_F(NpyReaderTest, StreamsAFileInPieces) {
  std::vector<std::int64_t> values(20000);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<std::int64_t>(i) - 3;
  const std::string file = path("a.npy");
  write_file(file, npy_bytes("<i4", {200, 100}, values));
  NpyReader reader(file);
  EXPECT_THAT(reader.header().shape, ElementsAre(200, 100));
  std::vector<std::int64_t> read(values.size());
  reader.read(read.data(), 1);
  reader.read(read.data() + 1, 0);
  reader.read(read.data() + 1, 19999);
  EXPECT_EQ(read, values);
  std::int64_t more = 0;
  EXPECT_THROW(reader.read(&more, 1), FileError);
}

TEST_F(NpyReaderTest, RefusesWhatIsNoFileOrHasAnotherLength) {
  const std::string file = path("a.npy");
  EXPECT_THROW(NpyReader reader(file), FileError) << "missing";
  EXPECT_THROW(NpyReader reader(folder_.string()), FileError);
  EXPECT_THROW(NpyReader reader("/dev/null"), FileError);
  write_file(file, "");
  EXPECT_THROW(NpyReader reader(file), FileError);
  write_file(file, npy_bytes("<i4", {2}, {1, 2}) + "x");
  EXPECT_THROW(NpyReader reader(file), FileError);
}

}  // namespace
}  // namespace lplb::io
