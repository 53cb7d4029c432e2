// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include "exchange/peer/layout.h"

// What the exchange of two levels by puts and its kernels share. A rank keeps the following in
// memory that its network reaches, with the same layout on all ranks of the rail:
//
//   a channel (peer/layout.h): control, then the lines that came
//   lines to send [2 halves, num_domains, lines_per_rank] | signals [num_domains]
namespace lplb::exchange {

struct RailLayout {
  ExchangeLayout lines;  ///< its ranks are the domains of this rail

  static RailLayout of(std::int32_t num_domains, std::int64_t max_counts) {
    return {ExchangeLayout::of(num_domains, max_counts)};
  }
  /// The offset of the lines for domain `to` in rounds of this parity.
  LPLB_HOST_DEVICE std::int64_t to_send(std::uint32_t epoch, int to) const {
    return sent() + lines.lines(epoch, to) - ExchangeLayout::kControlBytes;
  }
  /// The offset of the signals: a 64-bit number for each domain, which counts its puts.
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

/// The arguments of a kernel for one round. The network comes in addition.
struct RailArgs {
  PeerArgs rail;    ///< its ranks are the domains of this rail; `peers` is not used, `channel` is 0
  PeerArgs domain;  ///< `own` is null if each rank is a domain
  const std::int32_t* mine;
  std::int32_t* row;         ///< [num_domains, num_counts]: counts that came along the rail
  std::int32_t* all;         ///< DeviceGather's
  std::int32_t* outcome;     ///< DeviceGather's
  ExchangeControl* control;  ///< the exchange's own; only its counters are used
  unsigned long long fingerprint;
  int num_counts;
};

}  // namespace lplb::exchange
