// SPDX-License-Identifier: MIT
#include "placement/introsort.h"

#include <bit>
#include <utility>

namespace lplb::eplb {
namespace {

constexpr std::size_t kFewKeys = 16;  // ranges that partitioning leaves to the insertion sort

// Tags never decide: ties are what this file is about.
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

/// Hoare's partition around keys[0], which lies between two others: no scan leaves the range.
/// Keys equal to the pivot stop both scans and change sides. Returns where the upper part starts.
std::size_t partition(Key* keys, std::size_t n) {
  median_to_front(keys, n);
  const Key pivot = keys[0];
  std::size_t low = 1;
  std::size_t high = n;
  for (;;) {
    while (before(keys[low], pivot)) ++low;
    do --high;
    while (before(pivot, keys[high]));
    if (low >= high) return low;
    std::swap(keys[low++], keys[high]);
  }
}

/// Puts `key` into the heap keys[0, n) of last keys first, whose `hole` is free: the hole sinks to
/// a leaf past the later children (the right one where they tie), then the key rises to its place.
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

/// What keeps the worst case at n log n, where partitions stay lopsided.
void heap_sort(Key* keys, std::size_t n) {
  for (std::size_t parent = n / 2; parent-- > 0;) fill_hole(keys, n, parent, keys[parent]);
  for (std::size_t size = n - 1; size > 0; --size) {
    const Key key = std::exchange(keys[size], keys[0]);
    fill_hole(keys, size, 0, key);
  }
}

void partition_all(Key* keys, std::size_t n, int depth) {
  while (n > kFewKeys) {
    if (depth-- == 0) {
      heap_sort(keys, n);
      return;
    }
    const std::size_t cut = partition(keys, n);
    partition_all(keys + cut, n - cut, depth);
    n = cut;
  }
}

}  // namespace

void introsort(Key* keys, std::size_t n) {
  if (n < 2) return;
  const int log2 = static_cast<int>(std::bit_width(n)) - 1;
  partition_all(keys, n, 2 * log2);
  for (std::size_t i = 1; i < n; ++i) {
    const Key key = keys[i];
    std::size_t at = i;
    for (; at > 0 && before(key, keys[at - 1]); --at) keys[at] = keys[at - 1];
    keys[at] = key;
  }
}

}  // namespace lplb::eplb
