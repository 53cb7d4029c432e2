// SPDX-License-Identifier: MIT
#include "simulate/trace/arrays.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

namespace lplb::replay {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

struct Taken {
  std::string rest;
  std::vector<FlatArray> arrays;
};

Taken take(std::string_view line) {
  Taken taken;
  taken.rest = "left over";
  taken.arrays.resize(3);  // as if the previous line had had more arrays
  take_arrays(line, {"load", "other"}, taken.rest, taken.arrays);
  return taken;
}

TEST(ArraysTest, TakesPlainArrays) {
  const Taken taken =
      take(R"({"a":1,"load" : [ [1,20], [ 0 ,999999999999999999]],"other":[[[7]]]})");
  EXPECT_EQ(taken.rest, R"({"a":1,"load" :null,"other":null})");
  ASSERT_EQ(taken.arrays.size(), 2u);
  EXPECT_EQ(taken.arrays[0].key, "load");
  EXPECT_THAT(taken.arrays[0].shape, ElementsAre(2, 2));
  EXPECT_THAT(taken.arrays[0].values, ElementsAre(1, 20, 0, 999999999999999999));
  EXPECT_THAT(taken.arrays[1].shape, ElementsAre(1, 1, 1));
}

TEST(ArraysTest, LeavesWhatItIsNotSureOf) {
  for (const char* line : {
           R"({"load":[[1,2],[3]]})",
           R"({"load":[[1,2],3]})",
           R"({"load":[1,[2]]})",
           R"({"load":[[]]})",
           R"({"load":[]})",
           R"({"load":[[1,2.5]]})",
           R"({"load":[[1,2e1]]})",
           R"({"load":[[1,-2]]})",
           R"({"load":[[1,02]]})",
           R"({"load":[[1,2,]]})",
           R"({"load":[[1 2]]})",
           R"({"load":[[1000000000000000000]]})",
           R"({"load":[[[[1]]]]})",
           R"({"load":[[1,"2"]]})",
           R"({"load":[[1,2])",
           R"({"load":[[1)",
           R"({"load":)",
           R"({"load")",
           R"({"load)",
           R"({"load":"load"})",
           R"({"a":{"load":[[1]]}})",
           R"({"a":["load",[[1]]]})",
           R"({"a":"\"load\":[[1]]"})",
           R"({"a":"load\",[[1]]})",
           R"(["load",[[1]]])",
           "",
           "[[1]]",
       }) {
    const Taken taken = take(line);
    EXPECT_EQ(taken.rest, line);
    EXPECT_THAT(taken.arrays, IsEmpty()) << line;
  }
}

/// What stays must be valid JSON if and only if the line is.
TEST(ArraysTest, NoChangedByteMakesBadJsonGood) {
  const std::string line = R"({"load":[[1,20],[3,4]],"b":"x","other":[[5]]})";
  for (std::size_t i = 0; i < line.size(); ++i) {
    for (const char c : std::string_view("\"\\[]{},:0-.e \n\tx")) {
      std::string changed = line;
      changed[i] = c;
      const Taken taken = take(changed);
      EXPECT_EQ(nlohmann::json::accept(taken.rest), nlohmann::json::accept(changed)) << changed;
      for (const FlatArray& array : taken.arrays) {
        const auto whole = nlohmann::json::parse(changed, nullptr, false);
        if (whole.is_discarded()) continue;
        std::vector<Load> values;
        for (const auto& row : whole[array.key]) {
          for (const auto& value : row) values.push_back(value.get<Load>());
        }
        EXPECT_EQ(array.values, values) << changed;
      }
    }
  }
}

}  // namespace
}  // namespace lplb::replay
