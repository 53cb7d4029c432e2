// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace lplb::placement {

/// A float32 value in the upper 32 bits and a tag in the lower 32. Comparing keys compares values,
/// then tags. Values must be >= 0 (+0, never -0) or +infinity: their bits grow with the value. Keys
/// with different tags are never equal, so there are no ties.
using Key = std::uint64_t;

inline constexpr Key kNoKey = ~Key{0};  // above every key

/// Smallest value first, then smallest tag.
inline Key rising_key(float value, std::uint32_t tag) {
  return Key{std::bit_cast<std::uint32_t>(value)} << 32 | tag;
}
/// Largest value first, then smallest tag.
inline Key falling_key(float value, std::uint32_t tag) {
  return Key{~std::bit_cast<std::uint32_t>(value)} << 32 | tag;
}
inline float rising_value(Key key) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(key >> 32));
}
inline std::uint32_t tag_of(Key key) { return static_cast<std::uint32_t>(key); }

/// A tournament tree: it knows the smallest of n keys, and replaces a key in log2(n) steps without
/// branches.
class MinTree {
 public:
  /// After this, call set_leaf() for all of [0, size), then build().
  void resize(std::size_t size) {
    size_ = size;
    if (nodes_.size() < 2 * size) nodes_.resize(2 * size);
  }
  void set_leaf(std::size_t i, Key key) { nodes_[size_ + i] = key; }
  void build() {
    for (std::size_t i = size_ - 1; i > 0; --i) {
      nodes_[i] = std::min(nodes_[2 * i], nodes_[2 * i + 1]);
    }
  }
  Key top() const { return nodes_[1]; }
  void replace(std::size_t i, Key key) {
    std::size_t at = size_ + i;
    nodes_[at] = key;
    while (at > 1) {
      key = std::min(key, nodes_[at ^ 1]);
      at >>= 1;
      nodes_[at] = key;
    }
  }

 private:
  std::size_t size_ = 0;
  std::vector<Key> nodes_;  // node i has the children 2i and 2i + 1; leaf i is node size + i
};

}  // namespace lplb::placement
