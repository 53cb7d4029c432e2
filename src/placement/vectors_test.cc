// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "lplb/placement.h"

namespace lplb {
namespace {

using Json = nlohmann::json;
using Table = std::vector<std::vector<Index>>;

Table rows(std::span<const Index> values, Index columns) {
  Table table;
  for (std::size_t i = 0; i < values.size(); i += columns) {
    table.emplace_back(values.begin() + i, values.begin() + i + columns);
  }
  return table;
}

void compare(const Json& expected, int num_threads) {
  const auto weight = expected.at("weight").get<std::vector<std::vector<double>>>();
  std::vector<double> load;
  for (const auto& row : weight) load.insert(load.end(), row.begin(), row.end());
  const ExpertMaps maps = rebalance_experts(
      load, static_cast<Index>(weight.size()), static_cast<Index>(weight[0].size()),
      expected.at("num_replicas").get<Index>(), expected.at("num_groups").get<Index>(),
      expected.at("num_nodes").get<Index>(), expected.at("num_gpus").get<Index>(),
      {.num_threads = num_threads});

  EXPECT_EQ(rows(maps.physical_to_logical, maps.num_physical),
            expected.at("physical_to_logical").get<Table>());
  EXPECT_EQ(rows(maps.replica_count, maps.num_logical), expected.at("expert_count").get<Table>());
  const auto replicas = expected.at("logical_to_physical").get<std::vector<Table>>();
  ASSERT_EQ(maps.max_replicas, static_cast<Index>(replicas[0][0].size()));
  Table flat;
  for (const Table& layer : replicas) flat.insert(flat.end(), layer.begin(), layer.end());
  EXPECT_EQ(rows(maps.logical_to_physical, maps.max_replicas), flat);
}

class EplbVectors : public ::testing::TestWithParam<const char*> {};

TEST_P(EplbVectors, SameMaps) {
  const std::string path = std::string(LPLB_SOURCE_DIR "/tests/data/") + GetParam();
  std::ifstream file(path);
  ASSERT_TRUE(file) << path;
  const Json cases = Json::parse(file);
  ASSERT_GE(cases.size(), 9U);
  for (const Json& expected : cases) {
    SCOPED_TRACE(expected.at("name").get<std::string>());
    compare(expected, 1);
    compare(expected, 3);
  }
}

// The reference made eplb_reference.json; tests/oracle/eplb_vectors.py made eplb_vectors.json.
INSTANTIATE_TEST_SUITE_P(Files, EplbVectors,
                         ::testing::Values("eplb_reference.json", "eplb_vectors.json"),
                         [](const auto& param) {
                           const std::string name = param.param;
                           return name.substr(0, name.find('.'));
                         });

}  // namespace
}  // namespace lplb
