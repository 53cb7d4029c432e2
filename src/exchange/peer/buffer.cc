// SPDX-License-Identifier: MIT
#include "core/check.h"
#include "exchange/peer/memory.h"

namespace lplb {

void exchange::check_group(Index num_ranks, Index rank, const PeerGroupOptions& options) {
  check_argument(num_ranks >= 1 && num_ranks <= kMaxRanks, "num_ranks",
                 "{} is not between 1 and {}", num_ranks, kMaxRanks);
  check_argument(rank >= 0 && rank < num_ranks, "rank", "{} is not between 0 and {}", rank,
                 num_ranks - 1);
  // NOTE: in an exchange of two levels the domain's group carries the counts of up to 64 domains at
  // once, and one more.
  constexpr std::size_t kMost = 64 * (kMaxPhysical + kMaxRanks) + 1;
  check_argument(options.max_counts >= 1 && options.max_counts <= kMost, "max_counts",
                 "{} is not between 1 and {}", options.max_counts, kMost);
  check_argument(options.num_channels >= 1 && options.num_channels <= 65536, "num_channels",
                 "{} is not between 1 and 65536", options.num_channels);
  check_argument(options.deadline.count() > 0, "deadline", "{} us is not > 0",
                 options.deadline.count());
}

exchange::ExchangeLayout exchange::layout_of(Index num_ranks, const PeerGroupOptions& options) {
  return exchange::ExchangeLayout::of(num_ranks, static_cast<std::int64_t>(options.max_counts));
}

std::size_t peer_buffer_bytes(Index num_ranks, const PeerGroupOptions& options) {
  exchange::check_group(num_ranks, 0, options);
  return static_cast<std::size_t>(
      exchange::layout_of(num_ranks, options).bytes(options.num_channels));
}

}  // namespace lplb
