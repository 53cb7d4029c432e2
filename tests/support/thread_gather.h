// SPDX-License-Identifier: MIT
#pragma once

#include <barrier>
#include <cstddef>
#include <span>
#include <vector>

#include "lplb/device_exchange.h"

namespace lplb::testing {

/// AllGatherBytes among threads of one process, with one thread for each rank.
class ThreadGather {
 public:
  explicit ThreadGather(Index num_ranks)
      : barrier_(num_ranks), said_(static_cast<std::size_t>(num_ranks)) {}

  AllGatherBytes of_rank(Index rank) {
    return [this, rank](std::span<const std::byte> mine) {
      said_[static_cast<std::size_t>(rank)].assign(mine.begin(), mine.end());
      barrier_.arrive_and_wait();
      auto all = said_;
      barrier_.arrive_and_wait();
      return all;
    };
  }

 private:
  std::barrier<> barrier_;
  std::vector<std::vector<std::byte>> said_;
};

}  // namespace lplb::testing
