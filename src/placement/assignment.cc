// SPDX-License-Identifier: MIT
#include "placement/assignment.h"

#include <limits>

namespace lplb::placement {
namespace {

/// An assignment of the first rows, and prices that prove that none costs less: cost[row, column] -
/// row_price[row] - column_price[column] is never negative, and 0 for the pairs of the assignment.
class Assignment {
 public:
  Assignment(std::span<const std::int64_t> cost, Index n)
      : cost_(cost),
        n_(n),
        row_price_(static_cast<std::size_t>(n), 0),
        column_price_(row_price_),
        row_of_(row_price_.size(), -1),
        before_(row_price_.size()),
        distance_(row_price_.size()),
        is_done_(row_price_.size()) {}

  /// Assigns one more row, along a path on which assigned rows change their columns.
  void add(Index row) {
    Index column = find_path(row);
    while (column >= 0) {
      const Index giver = before_[column];  // the column that the path comes from, or -1
      row_of_[column] = giver < 0 ? row : row_of_[giver];
      column = giver;
    }
  }

  std::vector<Index> columns() const {
    std::vector<Index> column(row_price_.size());
    for (Index c = 0; c < n_; ++c) column[row_of_[c]] = c;
    return column;
  }

 private:
  /// Finds the cheapest path from `row` to a column without a row (Dijkstra's algorithm), and
  /// raises the prices so that the path costs nothing. Returns the column.
  Index find_path(Index row) {
    constexpr std::int64_t kFar = std::numeric_limits<std::int64_t>::max();
    distance_.assign(distance_.size(), kFar);
    is_done_.assign(is_done_.size(), 0);
    Index at = -1;  // the column that was reached last; -1: none, only `row`
    std::int64_t length = 0;
    for (;;) {
      const Index from = at < 0 ? row : row_of_[at];
      Index next = -1;
      for (Index c = 0; c < n_; ++c) {
        if (is_done_[c] != 0) continue;
        const std::int64_t with =
            length + cost_[std::size_t{1} * from * n_ + c] - row_price_[from] - column_price_[c];
        if (with < distance_[c]) {
          distance_[c] = with;
          before_[c] = at;
        }
        if (next < 0 || distance_[c] < distance_[next]) next = c;
      }
      length = distance_[next];
      is_done_[next] = 1;
      at = next;
      if (row_of_[at] < 0) break;
    }
    row_price_[row] += length;
    for (Index c = 0; c < n_; ++c) {
      if (is_done_[c] == 0 || c == at) continue;
      row_price_[row_of_[c]] += length - distance_[c];
      column_price_[c] -= length - distance_[c];
    }
    return at;
  }

  std::span<const std::int64_t> cost_;
  Index n_;
  std::vector<std::int64_t> row_price_, column_price_;
  std::vector<Index> row_of_;  // [n]: of each column; -1: none
  std::vector<Index> before_;  // [n]: the column before each on its path; -1: none
  std::vector<std::int64_t> distance_;
  std::vector<char> is_done_;
};

}  // namespace

std::vector<Index> least_assignment(std::span<const std::int64_t> cost, Index n) {
  Assignment assignment(cost, n);
  for (Index row = 0; row < n; ++row) assignment.add(row);
  return assignment.columns();
}

}  // namespace lplb::placement
