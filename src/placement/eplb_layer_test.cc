// SPDX-License-Identifier: MIT
#include "placement/eplb_layer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

namespace lplb::placement {
namespace {

constexpr float kLarge = 1 << 24;  // kLarge + 1 rounds to kLarge

float sum(const std::vector<float>& x) {
  return float32_sum(x.data(), static_cast<Index>(x.size()));
}

/// `size` ones, but the first `large` values are kLarge.
std::vector<float> ones(std::size_t size, std::size_t large) {
  std::vector<float> x(size, 1);
  std::fill_n(x.begin(), large, kLarge);
  return x;
}

// The 32 running sums take x[c], x[32 + c], ... Every 512 values they start again at 0, so that
// ones after the first 512 values are not lost to the large values before them.
TEST(Float32Sum, StartsAgainAfter512Values) {
  EXPECT_EQ(sum(ones(512, 32)), 32 * kLarge);              // 480 ones are lost
  EXPECT_EQ(sum(ones(1024, 32)), 32 * (kLarge + 16));      // 512 of 992 count
  EXPECT_EQ(sum(ones(1536, 32)), 32 * (kLarge + 32));      // and 1024
  EXPECT_EQ(sum(ones(512 + 256, 32)), 32 * (kLarge + 8));  // 8 rows after the fold
  EXPECT_EQ(sum(ones(512 + 64, 32)), 32 * (kLarge + 2));   // 2 rows
}

TEST(Float32Sum, FewValues) {
  EXPECT_EQ(sum({}), 0);
  EXPECT_EQ(sum({3}), 3);
  EXPECT_EQ(sum(ones(7, 0)), 7);
  EXPECT_EQ(sum(ones(8, 0)), 8);
  EXPECT_EQ(sum(ones(45, 0)), 45);
  // Below 8 values there are four running sums, here 1 + 1 + 1, 1, 1 and kLarge. They are added in
  // this order, and kLarge + 5 rounds to kLarge + 4.
  EXPECT_EQ(sum({1, 1, 1, kLarge, 1, 1}), kLarge + 4);
}

}  // namespace
}  // namespace lplb::placement
