// SPDX-License-Identifier: MIT
#include "lplb/topology.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "support/test_files.h"

namespace lplb {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::message_of;
using ::testing::StartsWith;

std::vector<Index> column(const Topology& topology, Index c) {
  std::vector<Index> ranks;
  for (Index g = 0; g < topology.group_size; ++g) ranks.push_back(topology.original(g, c));
  return ranks;
}

void expect_permutations(const Topology& topology) {
  EXPECT_NO_THROW(custom_topology(topology.r2o, topology.group_size, topology.num_columns));
}

TEST(Topology, Cube) {
  const Topology topology = cube();
  EXPECT_EQ(topology.name, "cube");
  EXPECT_EQ(topology.group_size, 8);
  EXPECT_EQ(topology.num_columns, 2);
  EXPECT_THAT(column(topology, 0), ElementsAre(3, 0, 1, 2, 7, 4, 5, 6));
  EXPECT_THAT(column(topology, 1), ElementsAre(6, 7, 4, 5, 0, 1, 2, 3));
  expect_permutations(topology);
}

TEST(Topology, Hypercube) {
  const Topology topology = hypercube();
  EXPECT_EQ(topology.group_size, 16);
  EXPECT_EQ(topology.num_columns, 2);
  EXPECT_THAT(column(topology, 0),
              ElementsAre(3, 0, 1, 2, 7, 4, 5, 6, 11, 8, 9, 10, 15, 12, 13, 14));
  EXPECT_THAT(column(topology, 1),
              ElementsAre(12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11));
  expect_permutations(topology);
}

TEST(Topology, Torus) {
  for (const auto& [m, n] : {std::pair<Index, Index>{2, 2}, {2, 5}, {4, 4}, {8, 4}, {3, 7}}) {
    const Topology topology = torus(m, n);
    EXPECT_EQ(topology.group_size, m * n);
    ASSERT_EQ(topology.num_columns, 2);
    for (Index i = 0; i < m; ++i) {
      for (Index j = 0; j < n; ++j) {
        EXPECT_EQ(topology.original(i * n + j, 0), (i + 1) % m * n + j);
        EXPECT_EQ(topology.original(i * n + j, 1), i * n + (j + 1) % n);
      }
    }
    expect_permutations(topology);
  }
  EXPECT_EQ(torus(8, 4).name, "torus:8x4");
}

TEST(Topology, TorusRefusesLinesOfOneRank) {
  EXPECT_EQ(message_of<ArgumentError>([] { torus(1, 4); }), "rows: 1 is not between 2 and 512");
  EXPECT_EQ(message_of<ArgumentError>([] { torus(4, 1); }), "columns: 1 is not between 2 and 512");
  EXPECT_EQ(message_of<ArgumentError>([] { torus(64, 32); }),
            "rows: 64 x 32 ranks are above the limit of 1024");
  EXPECT_EQ(message_of<ArgumentError>([] { torus(2, 2000000000); }),
            "columns: 2000000000 is not between 2 and 512");
}

TEST(Topology, Ring) {
  EXPECT_THAT(column(ring(5), 0), ElementsAre(1, 2, 3, 4, 0));
  EXPECT_THAT(column(ring(2), 0), ElementsAre(1, 0));
  EXPECT_EQ(ring(5).num_columns, 1);
  expect_permutations(ring(1024));
  EXPECT_EQ(message_of<ArgumentError>([] { ring(1); }), "num_ranks: 1 is not between 2 and 1024");
  EXPECT_EQ(message_of<ArgumentError>([] { ring(1025); }),
            "num_ranks: 1025 is not between 2 and 1024");
}

TEST(Topology, CustomIsChecked) {
  const auto refusal = [](std::vector<Index> r2o, Index size, Index columns) {
    return message_of<ArgumentError>([&] { custom_topology(r2o, size, columns); });
  };
  EXPECT_EQ(refusal({0}, 1, 1), "topology.group_size: 1 is not between 2 and 1024");
  EXPECT_EQ(refusal({1, 0}, 2, 0), "topology.num_columns: 0 is not between 1 and 4096");
  EXPECT_EQ(refusal({1, 0, 1}, 2, 1),
            "r2o: has 3 entries, expected group_size * num_columns (2 * 1)");
  EXPECT_EQ(refusal({1, 2}, 2, 1),
            "r2o: rank 1, column 0: rank 2 is not in the group, expected 0 to 1");
  EXPECT_EQ(refusal({1, -1}, 2, 1),
            "r2o: rank 1, column 0: rank -1 is not in the group, expected 0 to 1");
  EXPECT_EQ(refusal({1, 1, 2, 2, 0, 2}, 3, 2), "r2o: rank 2, column 1: rank 2 would copy itself");
  EXPECT_EQ(refusal({1, 2, 1}, 3, 1),
            "r2o: rank 2, column 0: rank 1 is already copied by rank 0, expected each rank once in "
            "a column");
  EXPECT_EQ(custom_topology(std::vector<Index>{1, 0}, 2, 1).name, "r2o");
}

TEST(ParseTopology, Names) {
  EXPECT_EQ(parse_topology("cube").r2o, cube().r2o);
  EXPECT_EQ(parse_topology("hypercube").r2o, hypercube().r2o);
  EXPECT_EQ(parse_topology("torus:8x4").r2o, torus(8, 4).r2o);
  EXPECT_EQ(parse_topology("torus:512x2").group_size, 1024);
  EXPECT_EQ(parse_topology("ring:12").r2o, ring(12).r2o);
  for (const char* name : {"cube", "hypercube", "torus:8x4", "ring:12"}) {
    EXPECT_EQ(parse_topology(name).name, name);
  }
}

TEST(ParseTopology, RefusesOtherNames) {
  for (const char* name : {"", "Cube", "cube ", "cube:8", "torus", "ring", "r2o", "eplb"}) {
    EXPECT_EQ(message_of<ArgumentError>([&] { parse_topology(name); }),
              "topology: \"" + std::string(name) +
                  "\" is unknown, expected cube, hypercube, torus:MxN, ring:N or r2o:FILE");
  }
  for (const char* name : {"ring:", "ring:1", "ring:-4", "ring:+4", "ring: 4", "ring:4x",
                           "ring:1025", "ring:99999999999999999999", "ring:4.0"}) {
    EXPECT_THAT(message_of<ArgumentError>([&] { parse_topology(name); }),
                AllOf(HasSubstr(name), HasSubstr("expected ring:N with N from 2 to 1024")));
  }
  for (const char* name :
       {"torus:", "torus:x", "torus:4", "torus:4x", "torus:x4", "torus:1x4", "torus:4x1",
        "torus:4X4", "torus:4x4x4", "torus:33x32", "torus:-2x-2", "torus:2147483647x2147483647"}) {
    EXPECT_THAT(message_of<ArgumentError>([&] { parse_topology(name); }),
                AllOf(HasSubstr(name), HasSubstr("expected torus:MxN with M and N of at least 2")));
  }
  EXPECT_THAT(message_of<ArgumentError>([] { parse_topology("r2o:"); }),
              HasSubstr("expected r2o:FILE"));
}

class TopologyFile : public ::testing::Test {
 protected:
  std::string path_ = ::testing::TempDir() + "lplb_" +
                      ::testing::UnitTest::GetInstance()->current_test_info()->name() + ".json";

  Topology parse(const std::string& text) {
    std::ofstream(path_) << text;
    return parse_topology("r2o:" + path_);
  }
  std::string refusal(const std::string& text) {
    try {
      parse(text);
    } catch (const FileError& error) {
      EXPECT_EQ(error.path(), path_);
      EXPECT_THAT(error.what(), StartsWith(path_));
      return error.what();
    }
    return "nothing was thrown";
  }
  void TearDown() override { std::remove(path_.c_str()); }
};

TEST_F(TopologyFile, IsRead) {
  const Topology topology = parse(R"({"r2o": [[1, 2], [2, 0], [0, 1]]})");
  EXPECT_EQ(topology.name, "r2o:" + path_);
  EXPECT_EQ(topology.group_size, 3);
  EXPECT_EQ(topology.num_columns, 2);
  EXPECT_THAT(topology.r2o, ElementsAre(1, 2, 2, 0, 0, 1));
}

TEST_F(TopologyFile, IsRefusedWithItsPlace) {
  EXPECT_THAT(refusal(R"({"r2o": [[1], [1]]})"),
              HasSubstr("key r2o[1][0]: rank 1 would copy itself"));
  EXPECT_THAT(refusal(R"({"r2o": [[1], [2], [1]]})"),
              HasSubstr("key r2o[2][0]: rank 1 is already copied by rank 0"));
  EXPECT_THAT(refusal(R"({"r2o": [[1], [2]]})"), HasSubstr("key r2o[1][0]: rank 2 is not in"));
  EXPECT_THAT(refusal(R"({"r2o": [[1]]})"), HasSubstr("has 1 rows, expected one for each of 2"));
  for (const char* text :
       {"", "[]", "{", R"({"r2o": []})", R"({"r2o": [1, 0]})", R"({"r2o": [[1], [0, 1]]})",
        R"({"r2o": [[1.5], [0]]})", R"({"r2o": [[-1], [0]]})", R"({"r2o": [[1], [0]], "n": 2})",
        R"({"r2o": [[1], [0]], "r2o": [[1], [0]]})", R"({"o2r": [[1], [0]]})"}) {
    EXPECT_NE(refusal(text), "nothing was thrown") << text;
  }
}

TEST_F(TopologyFile, MissingFile) {
  EXPECT_THROW(parse_topology("r2o:" + path_ + ".none"), FileError);
}

}  // namespace
}  // namespace lplb
