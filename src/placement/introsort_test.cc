// SPDX-License-Identifier: MIT
#include "placement/introsort.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

namespace lplb::placement {
namespace {

std::vector<Key> keys_of(const std::vector<float>& values) {
  std::vector<Key> keys;
  for (std::size_t i = 0; i < values.size(); ++i) {
    keys.push_back(falling_key(values[i], static_cast<std::uint32_t>(i)));
  }
  return keys;
}

std::vector<std::uint32_t> order_of(const std::vector<float>& values) {
  std::vector<Key> keys = keys_of(values);
  introsort(keys.data(), keys.size());
  std::vector<std::uint32_t> order;
  for (const Key key : keys) order.push_back(tag_of(key));
  return order;
}

#ifdef __GLIBCXX__
// The order that the standard library's own sort gives with the same comparison.
std::vector<std::uint32_t> standard_order(const std::vector<float>& values) {
  std::vector<std::uint32_t> order(values.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<std::uint32_t>(i);
  std::sort(order.begin(), order.end(),
            [&](std::uint32_t a, std::uint32_t b) { return values[a] > values[b]; });
  return order;
}

// Loads for which the partitions of std::sort stay lopsided until it falls back to its heap. They
// are found by fixing each value as late as the comparisons allow (McIlroy, "A killer adversary for
// quicksort").
std::vector<float> killer(std::size_t n) {
  constexpr float kOpen = 0;
  std::vector<float> value(n, kOpen);
  auto next = static_cast<float>(n);
  std::size_t candidate = 0;
  std::vector<std::size_t> order(n);
  for (std::size_t i = 0; i < n; ++i) order[i] = i;
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    if (value[a] == kOpen && value[b] == kOpen) value[a == candidate ? a : b] = next--;
    if (value[a] == kOpen) {
      candidate = a;
    } else if (value[b] == kOpen) {
      candidate = b;
    }
    return value[a] > value[b];
  });
  return value;
}

TEST(Introsort, LeavesTiesAsTheStandardLibraryDoes) {
  std::mt19937 random(1);
  for (std::size_t n = 0; n <= 400; ++n) {
    for (const std::uint32_t distinct : {1U, 2U, 5U, 50U, 5000U}) {
      std::vector<float> values(n);
      for (float& v : values) v = static_cast<float>(random() % distinct);
      ASSERT_EQ(order_of(values), standard_order(values)) << n << " keys, " << distinct;
    }
  }
}

TEST(Introsort, FallsBackToTheSameHeap) {
  for (const std::size_t n : {17U, 64U, 100U, 256U, 1001U, 4096U}) {
    std::vector<float> values = killer(n);
    ASSERT_EQ(order_of(values), standard_order(values)) << n;
    for (float& v : values) v = std::floor(v / 3);  // the same with ties
    ASSERT_EQ(order_of(values), standard_order(values)) << n << " with ties";
  }
}

TEST(Introsort, OrderedInputs) {
  for (const std::size_t n : {16U, 17U, 33U, 100U, 511U}) {
    std::vector<float> up, down, pipes;
    for (std::size_t i = 0; i < n; ++i) {
      up.push_back(static_cast<float>(i / 2));
      down.push_back(static_cast<float>(n - i));
      pipes.push_back(static_cast<float>(std::min(i, n - i)));
    }
    EXPECT_EQ(order_of(up), standard_order(up));
    EXPECT_EQ(order_of(down), standard_order(down));
    EXPECT_EQ(order_of(pipes), standard_order(pipes));
  }
}
#endif

TEST(Introsort, OrderOfEqualValuesIsPyTorchs) {
  // torch.zeros(20).sort(descending=True).indices, torch 2.x on x86-64.
  EXPECT_EQ(order_of(std::vector<float>(20, 0.0F)),
            (std::vector<std::uint32_t>{10, 19, 18, 17, 16, 15, 14, 13, 12, 11,
                                        0,  9,  8,  7,  6,  5,  4,  3,  2,  1}));
  EXPECT_EQ(order_of(std::vector<float>(4, 3.0F)), (std::vector<std::uint32_t>{0, 1, 2, 3}));
}

TEST(Introsort, InfinityComesFirst) {
  const float inf = std::numeric_limits<float>::infinity();
  EXPECT_EQ(order_of({1, inf, 0, 3e38F}), (std::vector<std::uint32_t>{1, 3, 0, 2}));
}

}  // namespace
}  // namespace lplb::placement
