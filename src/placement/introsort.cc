// SPDX-License-Identifier: MIT
#include "placement/introsort.h"

#include <array>
#include <bit>
#include <utility>

namespace lplb::placement {
namespace {

constexpr std::size_t kFewKeys = 16;  // ranges of at most this size are left to the stable sort

// Compares values only. Tags must not decide, because the order of ties is what this file is about.
bool before(Key a, Key b) { return (a >> 32) < (b >> 32); }

/// Moves the median of keys[1], the middle and the last key to the front.
void median_to_front(Key* keys, std::size_t n) {
  Key& a = keys[1];
  Key& b = keys[n / 2];
  Key& c = keys[n - 1];
  Key* median = &b;
  if (before(a, b)) {
    if (!before(b, c)) median = before(a, c) ? &c : &a;
  } else if (before(a, c)) {
    median = &a;
  } else if (before(b, c)) {
    median = &c;
  }
  std::swap(keys[0], *median);
}

/// Hoare's partition around keys[0], the median. The k-th key from the left that may not stay on
/// the left is swapped with the k-th from the right that may not stay on the right, until they
/// meet. Keys that are equal to the pivot may stay on neither side. As in BlockQuicksort (Edelkamp
/// and Weiss, 2016), the keys are listed first, without a branch that depends on a key. Returns
/// where the upper part starts.
std::size_t partition(Key* keys, std::size_t n) {
  median_to_front(keys, n);
  std::array<std::uint16_t, kMaxKeys> left;
  std::array<std::uint16_t, kMaxKeys> right;
  const Key low = keys[0] >> 32 << 32;         // the smallest key of the pivot's value
  const Key high = keys[0] | Key{0xFFFFFFFF};  // the largest one
  std::size_t num_left = 0;
  std::size_t num_right = 0;
  for (std::size_t i = 1, j = n - 1; i < n; ++i, --j) {
    left[num_left] = static_cast<std::uint16_t>(i);
    right[num_right] = static_cast<std::uint16_t>(j);
    num_left += keys[i] >= low;
    num_right += keys[j] <= high;
  }
  // NOTE: a scan from the left also stops at the key that was last sent to the right.
  std::size_t cut = n;
  for (std::size_t k = 0; k < num_left; ++k) {
    if (k == num_right || left[k] >= right[k]) {
      cut = std::min<std::size_t>(cut, left[k]);
      break;
    }
    std::swap(keys[left[k]], keys[right[k]]);
    cut = right[k];
  }
  return cut;
}

/// Puts `key` into the free place `hole` of the heap keys[0, n), which has the largest key on top.
/// The hole sinks to a leaf, along the larger children (the right one of equal children). Then the
/// key rises from there to its place.
void fill_hole(Key* keys, std::size_t n, std::size_t hole, Key key) {
  const std::size_t top = hole;
  for (std::size_t right = 2 * hole + 2; right <= n; right = 2 * hole + 2) {
    const std::size_t child =
        right == n || before(keys[right], keys[right - 1]) ? right - 1 : right;
    keys[hole] = keys[child];
    hole = child;
  }
  while (hole > top && before(keys[(hole - 1) / 2], key)) {
    keys[hole] = keys[(hole - 1) / 2];
    hole = (hole - 1) / 2;
  }
  keys[hole] = key;
}

/// Takes over when partitions stay lopsided, so that the worst case is n log n.
void heap_sort(Key* keys, std::size_t n) {
  for (std::size_t parent = n / 2; parent-- > 0;) fill_hole(keys, n, parent, keys[parent]);
  for (std::size_t size = n - 1; size > 0; --size) {
    const Key key = std::exchange(keys[size], keys[0]);
    fill_hole(keys, size, 0, key);
  }
}

/// A stable sort of up to kFewKeys keys: it counts how many go before each.
void sort_few(Key* keys, std::size_t n) {
  std::array<Key, kFewKeys> key;
  std::array<std::uint32_t, kFewKeys> rank{};
  for (std::size_t i = 0; i < n; ++i) {
    key[i] = keys[i];
    for (std::size_t j = 0; j < i; ++j) {
      const std::uint32_t moves = before(key[i], key[j]);
      rank[j] += moves;
      rank[i] += 1 - moves;
    }
  }
  for (std::size_t i = 0; i < n; ++i) keys[rank[i]] = key[i];
}

void sort_range(Key* keys, std::size_t n, int depth) {
  while (n > kFewKeys) {
    if (depth-- == 0) {
      heap_sort(keys, n);
      return;
    }
    const std::size_t cut = partition(keys, n);
    sort_range(keys + cut, n - cut, depth);
    n = cut;
  }
  sort_few(keys, n);
}

}  // namespace

void introsort(Key* keys, std::size_t n) {
  const int log2 = static_cast<int>(std::bit_width(n)) - 1;
  sort_range(keys, n, 2 * log2);
}

}  // namespace lplb::placement
