// SPDX-License-Identifier: MIT
#include "lplb/load_history.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lplb/error.h"

namespace lplb {
namespace {

using ::testing::ElementsAre;

void add(LoadHistory& history, std::vector<Load> counts) { history.add(counts); }

TEST(LoadHistory, SumsAllBatches) {
  LoadHistory history(2, {});
  add(history, {1, 2});
  add(history, {10, 20});
  EXPECT_THAT(history.load(), ElementsAre(11, 22));
  EXPECT_EQ(history.batches(), 2);
  history.clear();
  EXPECT_THAT(history.load(), ElementsAre(0, 0));
  EXPECT_EQ(history.batches(), 0);
}

TEST(LoadHistory, WindowForgetsTheOldest) {
  LoadHistory history(2, {.window = 2});
  add(history, {1, 2});
  add(history, {10, 20});
  add(history, {100, 200});
  EXPECT_THAT(history.load(), ElementsAre(110, 220));
  add(history, {0, 0});
  add(history, {0, 7});
  EXPECT_THAT(history.load(), ElementsAre(0, 7));
  history.clear();
  add(history, {5, 0});
  add(history, {5, 0});
  add(history, {5, 0});
  EXPECT_THAT(history.load(), ElementsAre(10, 0));
}

TEST(LoadHistory, DecayHalvesWhatWas) {
  LoadHistory history(1, {.decay = 0.5});
  add(history, {8});
  add(history, {1});
  add(history, {0});
  EXPECT_THAT(history.load(), ElementsAre(2.5));
}

TEST(LoadHistory, RefusesBadArguments) {
  EXPECT_THROW(LoadHistory(0, {}), ArgumentError);
  EXPECT_THROW(LoadHistory(1, {.window = -1}), ArgumentError);
  EXPECT_THROW(LoadHistory(1, {.window = kMaxHistoryWindow + 1}), ArgumentError);
  EXPECT_THROW(LoadHistory(1, {.decay = 0}), ArgumentError);
  EXPECT_THROW(LoadHistory(1, {.decay = 1.5}), ArgumentError);
  EXPECT_THROW(LoadHistory(1, {.window = 2, .decay = 0.5}), ArgumentError);
  LoadHistory history(2, {});
  EXPECT_THROW(add(history, {1}), ArgumentError);
  EXPECT_THROW(add(history, {1, -1}), ArgumentError);
  EXPECT_THROW(add(history, {1, Load{1} << 31}), ArgumentError);
  EXPECT_THAT(history.load(), ElementsAre(0, 0));
}

}  // namespace
}  // namespace lplb
