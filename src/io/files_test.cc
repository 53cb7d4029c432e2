// SPDX-License-Identifier: MIT
#include "io/files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "io/input.h"
#include "io/output.h"
#include "support/test_files.h"

namespace lplb::io {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

template <class Call>
std::string problem_of(const Call& call) {
  try {
    call();
  } catch (const FileError& error) {
    return error.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return "";
}

TEST(LoadFile, HoldsRowsWhoseSumsFit) {
  const Matrix<Load> load = parse_load(R"({"load": [[9223372036854775806, 1], [0, 0]]})", "f");
  EXPECT_EQ(load.rows, 2U);
  EXPECT_EQ(load.columns, 2U);
  EXPECT_THAT(problem_of([] { parse_load(R"({"load": [[9223372036854775807, 1]]})", "f"); }),
              HasSubstr("key load[0]: the sum passes 2^63 - 1 at entry 1"));
  EXPECT_THAT(problem_of([] { parse_load(R"({"load": [[1]], "x": 1})", "f"); }),
              HasSubstr("\"x\" is unknown"));
  EXPECT_THAT(parse_real_load(R"({"load": [[0.5, 1]]})", "f").values, ElementsAre(0.5, 1));
  EXPECT_THROW(parse_real_load(R"({"loads": [[0.5, 1]]})", "f"), FileError);
}

TEST(PlacementFile, ReadsOneLayerFlatAndSeveralNested) {
  const auto flat = parse_placement(
      R"({"num_ranks": 2, "num_logical_experts": 3, "physical_to_logical": [0, 1, 2, 0],
          "num_nodes": 2, "rank_speed": [1, 0.5], "rank_alive": [true, true]})",
      "f");
  ASSERT_EQ(flat.size(), 1U);
  EXPECT_EQ(flat[0],
            make_placement(2, 3, std::vector<Index>{0, 1, 2, 0},
                           {.num_nodes = 2, .rank_speed = {1, 0.5}, .rank_alive = {1, 1}}));
  const auto nested = parse_placement(
      R"({"num_ranks": 2, "num_logical_experts": 3,
          "physical_to_logical": [[0, 1, 2, 0], [2, 1, 1, 0]]})",
      "f");
  ASSERT_EQ(nested.size(), 2U);
  EXPECT_THAT(nested[1].physical_to_logical, ElementsAre(2, 1, 1, 0));
}

TEST(PlacementFile, DerivedMapsMustAgree) {
  const auto parse = [](const std::string& more) {
    return parse_placement(
        R"({"num_ranks": 2, "num_logical_experts": 3, "physical_to_logical": [0, 1, 2, 0], )" +
            more + "}",
        "f");
  };
  EXPECT_NO_THROW(parse(R"("replica_count": [2, 1, 1])"));
  EXPECT_NO_THROW(parse(R"("logical_to_physical": [[3, 0, -1], [1, -1, -1], [2, -1, -1]])"));
  EXPECT_THAT(problem_of([&] { parse(R"("replica_count": [1, 1, 2])"); }),
              HasSubstr("key replica_count: does not agree"));
  EXPECT_THAT(problem_of([&] { parse(R"("logical_to_physical": [[0, 3], [1, -1], [1, -1]])"); }),
              HasSubstr("key logical_to_physical[2]: does not agree"));
  EXPECT_THAT(problem_of([&] { parse(R"("logical_to_physical": [[0, 3], [-1, 1], [2, -1]])"); }),
              HasSubstr("key logical_to_physical[1]: does not agree"));
}

TEST(PlacementFile, IsWrittenAndReadBack) {
  const PlacementOptions options{
      .num_nodes = 2, .rank_speed = {1, 0.1, 2, 1}, .rank_alive = {1, 1, 0, 1}};
  const std::vector<Placement> layers = {
      make_placement(4, 3, std::vector<Index>{0, 1, 2, 0, 1, 1, 2, 0}, options),
      make_placement(4, 3, std::vector<Index>{0, 1, 2, 2, 0, 0, 2, 2}, options)};
  const LayerMoves moves = {
      {{.logical = 2, .source = 2, .target = 6, .kind = MoveKind::kOtherNode},
       {.logical = 1, .source = 1, .target = 1, .kind = MoveKind::kSameRank}},
      {{.logical = 0, .source = 5, .target = 4, .kind = MoveKind::kSameNode}}};
  const ExpertMaps maps = maps_of(layers);
  EXPECT_EQ(maps.max_replicas, 4);
  EXPECT_EQ(maps.logical_to_physical.size(), 2U * 3U * 4U);
  for (const LayerMoves* shown : {static_cast<const LayerMoves*>(nullptr), &moves}) {
    EXPECT_EQ(parse_placement(placement_json(maps, layers[0], shown), "f"), layers);
  }
}

TEST(LayerNumbers, AreReadAndWritten) {
  const std::string load = R"({"load": [[1], [2], [3]], "layers": )";
  std::vector<Index> layers;
  parse_load(load + "[0, 3, 9]}", "f", &layers);
  EXPECT_THAT(layers, ElementsAre(0, 3, 9));
  parse_real_load(load + "[1, 2, 4]}", "f", &layers);
  EXPECT_THAT(layers, ElementsAre(1, 2, 4));
  const std::vector<Placement> rows(3, make_placement(1, 1, std::vector<Index>{0}));
  const std::string text = placement_json(maps_of(rows), rows[0], nullptr, layers);
  layers.clear();
  EXPECT_EQ(parse_placement(text, "f", &layers), rows);
  EXPECT_THAT(layers, ElementsAre(1, 2, 4));
  parse_placement(placement_json(maps_of(rows), rows[0]), "f", &layers);
  EXPECT_TRUE(layers.empty());
  const auto problem = [&](const std::string& list) {
    return problem_of([&] { parse_load(load + list + "}", "f"); });
  };
  EXPECT_THAT(problem("3"), HasSubstr("key layers: is 3, expected a list of 3 layer numbers"));
  EXPECT_THAT(problem("[1, 2]"), HasSubstr("key layers: is a list of 2, expected a list of 3"));
  EXPECT_THAT(problem("[1, 2, 2]"), HasSubstr("key layers[2]: is 2, expected an integer from 3"));
  EXPECT_THAT(problem("[-1, 2, 3]"), HasSubstr("key layers[0]: is -1"));
  EXPECT_THAT(problem("[1, 2.0, 3]"), HasSubstr("key layers[1]: is 2.0"));
  EXPECT_THAT(problem("[1, 2, 2147483647]"), HasSubstr("key layers[2]: is 2147483647"));
}

TEST(PlacementFile, LayersMayHaveDifferentNumbersOfSlots) {
  const std::vector<Placement> layers = {
      make_placement(2, 3, std::vector<Index>{0, 1, 2, 0}, {.num_nodes = 2}),
      make_placement(2, 3, std::vector<Index>{0, 1, 2, 2, 2, 0}, {.num_nodes = 2})};
  const std::string text = placement_json(layers, {3, 5});
  std::vector<Index> numbers;
  EXPECT_EQ(parse_placement(text, "f", &numbers), layers);
  EXPECT_THAT(numbers, ElementsAre(3, 5));
  // The same as the writer of equal layers writes.
  const std::vector<Placement> equal = {layers[1], layers[1]};
  EXPECT_EQ(placement_json(equal, {}), placement_json(maps_of(equal), equal[0]));
  const auto problem = [](const std::string& maps) {
    return problem_of([&] {
      parse_placement(
          R"({"num_ranks": 2, "num_logical_experts": 3, "physical_to_logical": )" + maps + "}",
          "f");
    });
  };
  EXPECT_THAT(problem("[[0, 1, 2, 0], [0, 1, 2]]"),
              HasSubstr("key physical_to_logical[1]: has 3 entries"));
  EXPECT_THAT(problem("[[0, 1, 2, 0], []]"), HasSubstr("key physical_to_logical[1]: is an empty"));
  EXPECT_THAT(problem("[[0, 1, 2, 0], 3]"), HasSubstr("key physical_to_logical[1]: is 3"));
  EXPECT_THAT(problem("[[0, 1, 2, 0], [0, [1], 2, 0]]"),
              HasSubstr("key physical_to_logical[1][1]: is a list"));
  EXPECT_THAT(problem("[[0, 1, 2, 0], [0, 1, 2, 3]]"),
              HasSubstr("key physical_to_logical[1][3]: is 3"));
  EXPECT_THAT(problem("[]"), HasSubstr("key physical_to_logical"));
}

TEST(PlacementFile, EveryCutAndEveryChangedByteIsReadOrRefused) {
  const std::vector<Placement> layers = {make_placement(2, 3, std::vector<Index>{0, 1, 2, 0})};
  const LayerMoves moves = {
      {{.logical = 0, .source = 3, .target = 0, .kind = MoveKind::kSameNode}}};
  const std::string good = placement_json(maps_of(layers), layers[0], &moves);
  for (std::size_t size = 0; size + 2 < good.size(); ++size) {
    EXPECT_THROW(parse_placement(good.substr(0, size), "f"), FileError) << size;
  }
  for (std::size_t at = 0; at < good.size(); ++at) {
    for (const int change : {1, 16, 255}) {
      std::string text = good;
      text[at] = static_cast<char>(text[at] ^ change);
      try {
        EXPECT_FALSE(parse_placement(text, "f").empty());
      } catch (const FileError&) {
        // It may be refused, too.
      }
    }
  }
}

class FilesTest : public testing::Files {
 protected:
  static std::string content(const std::string& path) {
    std::ostringstream out;
    out << std::ifstream(path).rdbuf();
    return out.str();
  }
};

TEST_F(FilesTest, WhatIsWrittenIsRead) {
  const std::string text(100000, 'x');
  write_file(path("a"), text);
  EXPECT_EQ(read_file(path("a")), text);
  EXPECT_EQ(read_file(path("a"), 100000), text);
  EXPECT_THAT(problem_of([&] { read_file(path("a"), 99999); }), HasSubstr("100000 bytes"));
  EXPECT_THAT(problem_of([&] { read_file("/dev/zero", 99999); }), HasSubstr("more than 99999"));
  EXPECT_THAT(problem_of([&] { read_file(path("none")); }), HasSubstr("No such file"));
  EXPECT_THAT(problem_of([&] { read_file(folder_.string()); }), HasSubstr("folder"));
  EXPECT_EQ(read_file("/dev/null"), "");
  write_file(path("l"), R"({"load": [[1]]})");
  EXPECT_EQ(read_load(path("l")).values.at(0), 1);
  EXPECT_EQ(read_real_load(path("l")).values.at(0), 1);
  EXPECT_THAT(problem_of([&] { read_placement(path("l")); }), HasSubstr("unknown"));
}

TEST_F(FilesTest, ReplacingKeepsModeAndLinksAndLeavesNothingBeside) {
  write_file(path("a"), "old");
  ASSERT_EQ(::chmod(path("a").c_str(), 0604), 0);
  std::filesystem::create_symlink("a", path("link"));
  write_file(path("link"), "new");
  EXPECT_EQ(content(path("a")), "new");
  EXPECT_TRUE(std::filesystem::is_symlink(path("link")));
  struct stat status {};
  ASSERT_EQ(::stat(path("a").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0604U);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_), {}), 2);
}

TEST_F(FilesTest, WhatCannotBeWrittenSaysWhy) {
  const auto says = [](const std::string& path, const std::string& what) {
    EXPECT_THAT(problem_of([&] { write_file(path, "x"); }), HasSubstr(what));
  };
  says(path("none/a"), "No such file");
  says(folder_.string(), "is a folder");
  says("/dev/full", "No space left");
  says("", "no file name");
  for (const std::string& bad : {path("none/a"), folder_.string(), std::string()}) {
    EXPECT_THROW(check_output(bad), FileError) << bad;
  }
  for (const std::string& good : {path("a"), std::string("-"), std::string("/dev/full")}) {
    EXPECT_NO_THROW(check_output(good)) << good;
  }
}

TEST_F(FilesTest, ADanglingLinkIsWrittenThrough) {
  std::filesystem::create_symlink("target", path("link"));
  write_file(path("link"), "x");
  EXPECT_EQ(content(path("link")), "x");
}

TEST_F(FilesTest, ANewFileHasTheModeThatTheUmaskLeaves) {
  const mode_t before = ::umask(027);
  write_file(path("a"), "x");
  ::umask(before);
  struct stat status {};
  ASSERT_EQ(::stat(path("a").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0640U);
}

TEST_F(FilesTest, DevicesAreWrittenInPlace) {
  EXPECT_NO_THROW(write_file("/dev/null", "x"));
  EXPECT_TRUE(std::filesystem::is_character_file("/dev/null"));
}

TEST_F(FilesTest, ARefusedFolderIsClosed) {
  // The next descriptor is the lowest one that is free.
  const auto next_descriptor = [] {
    const int descriptor = ::dup(STDIN_FILENO);
    ::close(descriptor);
    return descriptor;
  };
  const int before = next_descriptor();
  EXPECT_THAT(problem_of([&] { InputFile file(folder_.string()); }), HasSubstr("is a folder"));
  EXPECT_EQ(next_descriptor(), before);
}

}  // namespace
}  // namespace lplb::io
