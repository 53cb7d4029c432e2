// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>

#include "lplb/files.h"
#include "support/test_files.h"

namespace lplb {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::message_of;
using ::testing::StartsWith;

class PublicFiles : public testing::Files {};

TEST_F(PublicFiles, ALoadIsReadAsItWasWritten) {
  const LoadFile file{3, {1, 2, 3, 9223372036854775800, 0, 7}, {4, 9}};
  const std::string path = this->path("load.json");
  write_load_file(file, path);
  const LoadFile back = read_load_file(path);
  EXPECT_EQ(back.num_logical_experts, 3);
  EXPECT_EQ(back.load, file.load);
  EXPECT_EQ(back.layers, file.layers);
  write_load_file({3, {1, 2, 3}, {}}, path);
  EXPECT_THAT(read_load_file(path).load, ElementsAre(1, 2, 3));
  EXPECT_TRUE(read_load_file(path).layers.empty());
}

TEST_F(PublicFiles, APlacementIsReadAsItWasWritten) {
  const PlacementOptions group{.num_nodes = 2, .rank_speed = {1, 0.5}, .rank_alive = {1, 1}};
  const PlacementFile file{{make_placement(2, 3, std::vector<Index>{0, 1, 2, 0}, group),
                            make_placement(2, 3, std::vector<Index>{2, 1, 1, 0, 0, 2}, group)},
                           {3, 7}};
  const std::string path = this->path("placement.json");
  write_placement_file(file, path);
  const PlacementFile back = read_placement_file(path);
  EXPECT_EQ(back.placements, file.placements);
  EXPECT_EQ(back.layers, file.layers);
}

TEST_F(PublicFiles, BadFilesNameTheKey) {
  const std::string path = write("load.json", R"({"load": [[1, -2]]})");
  EXPECT_THAT(message_of<FileError>([&] { read_load_file(path); }), HasSubstr("key load[0][1]"));
  EXPECT_THAT(message_of<FileError>([&] { read_placement_file(path); }), HasSubstr("\"load\""));
  EXPECT_THAT(message_of<FileError>([&] { read_load_file(this->path("none.json")); }),
              HasSubstr("No such file"));
  EXPECT_THAT(message_of<FileError>([&] {
                write_load_file({1, {1}, {}}, this->path("no/x"));
              }),
              HasSubstr("no/x"));
}

TEST_F(PublicFiles, WhatDoesNotFitIsRefusedBeforeAnythingIsWritten) {
  const std::string path = write("kept.json", "kept");
  const auto refused = [&](const LoadFile& file) {
    return message_of<ArgumentError>([&] { write_load_file(file, path); });
  };
  EXPECT_THAT(refused({0, {1}, {}}), StartsWith("num_logical_experts: 0 "));
  EXPECT_THAT(refused({2, {}, {}}), StartsWith("load: has 0 entries"));
  EXPECT_THAT(refused({2, {1, 2, 3}, {}}), StartsWith("load: has 3 entries"));
  EXPECT_THAT(refused({2, {1, 2, 3, -1}, {}}), StartsWith("load: [1, 1] is -1"));
  EXPECT_THAT(refused({2, {9223372036854775807, 1}, {}}), StartsWith("load: row 0 sums"));
  EXPECT_THAT(refused({1, {1, 2}, {1}}), StartsWith("layers: has 1 numbers, expected 2"));
  EXPECT_THAT(refused({1, {1, 2}, {5, 5}}), StartsWith("layers: has 5 after 5"));
  EXPECT_THAT(refused({1, {1}, {-1}}), StartsWith("layers: has -1"));

  const Placement two = make_placement(2, 2, std::vector<Index>{0, 1});
  const Placement one = make_placement(1, 2, std::vector<Index>{0, 1});
  const auto misplaced = [&](const PlacementFile& file) {
    return message_of<ArgumentError>([&] { write_placement_file(file, path); });
  };
  EXPECT_THAT(misplaced({}), StartsWith("placements: is empty"));
  EXPECT_THAT(misplaced({{two, one}, {}}), StartsWith("placements: [1] has another num_ranks"));
  EXPECT_THAT(misplaced({{two}, {1, 2}}), StartsWith("layers: has 2 numbers"));
  std::string kept;
  std::ifstream(path) >> kept;
  EXPECT_EQ(kept, "kept");
}

}  // namespace
}  // namespace lplb
