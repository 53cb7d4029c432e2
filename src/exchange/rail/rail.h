// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include "exchange/peer/layout.h"

// Between the exchange of two levels by puts and its kernels. What a rank keeps for the rail, in
// memory that its network reaches, laid out alike on all ranks of the rail:
//
//   a channel (peer_layout.h): control, then the lines that came
//   lines to send [2 halves, num_domains, lines_per_rank] | puts that came [num_domains]
namespace lplb::exchange {

struct RailLayout {
  ExchangeLayout lines;  ///< its ranks are the domains

  static RailLayout of(std::int32_t num_domains, std::int64_t max_counts) {
    return {ExchangeLayout::of(num_domains, max_counts)};
  }
  /// Where the lines for domain `to` stand in the rounds of this parity.
  LPLB_HOST_DEVICE std::int64_t to_send(std::uint32_t epoch, int to) const {
    return sent() + lines.lines(epoch, to) - ExchangeLayout::kControlBytes;
  }
  /// Of each domain how often it has put: 64-bit numbers.
  LPLB_HOST_DEVICE std::int64_t signals() const { return sent() + 2 * half_bytes(); }
  std::int64_t bytes() const {
    return ExchangeLayout::aligned(signals() + std::int64_t{8} * lines.num_ranks);
  }

 private:
  LPLB_HOST_DEVICE std::int64_t half_bytes() const {
    return static_cast<std::int64_t>(sizeof(ExchangeLine)) * lines.num_ranks * lines.lines_per_rank;
  }
  LPLB_HOST_DEVICE std::int64_t sent() const {
    return ExchangeLayout::aligned(ExchangeLayout::kControlBytes + 2 * half_bytes());
  }
};

inline constexpr int kRailThreads = 512;

/// A round, as a kernel takes it beside its network.
struct RailArgs {
  PeerArgs rail;    ///< its ranks are the domains; `peers` is not used, `channel` is 0
  PeerArgs domain;  ///< null: each rank is a domain
  const std::int32_t* mine;
  std::int32_t* row;         ///< [num_domains, num_counts]: what came along the rail
  std::int32_t* all;         ///< DeviceGather's
  std::int32_t* outcome;     ///< DeviceGather's
  ExchangeControl* control;  ///< of both levels, its counters alone
  unsigned long long fingerprint;
  int num_counts;
};

}  // namespace lplb::exchange
