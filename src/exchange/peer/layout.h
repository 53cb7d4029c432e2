// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include "core/host_device.h"

// What the exchange keeps in device memory: one buffer for each rank, with the same layout on all
// ranks. Only this file knows its offsets.
//
//   table of peers' buffers | channel 0 | channel 1 | ...
//   a channel: control, then lines [2 halves, num_ranks, lines_per_rank]; rank g writes [:, g, :]
namespace lplb::exchange {

/// 8 bytes that are written and read as one: a count and the round that it belongs to.
struct alignas(8) ExchangeWord {
  std::uint32_t data;
  std::uint32_t epoch;
};

/// What one store writes. The first line of a rank holds the fingerprint, each other line two
/// counts.
struct alignas(16) ExchangeLine {
  ExchangeWord word[2];
};
static_assert(sizeof(ExchangeLine) == 16);

/// Why a round is not complete.
enum ExchangeVerdict : std::uint32_t {
  kVerdictTimedOut = 1,    ///< the deadline has passed
  kVerdictBehind = 2,      ///< a peer is in a later round: it has given this round up
  kVerdictMismatched = 4,  ///< a peer's fingerprint differs
};

/// The state of this rank's end of a channel. Peers do not access it. One thread writes it at the
/// end of a round.
struct ExchangeControl {
  std::uint32_t epoch;   ///< the epoch of the last round that is over; 0: none
  std::int32_t missing;  ///< a rank that the last incomplete round lacked
  unsigned long long rounds, timed_out, behind, mismatched;
};

/// Epochs count 1, 2, ..., 2^32 - 1, 2, 3, ... 0 means "never written". After 2^32 - 1 comes 2, so
/// that the halves alternate there too.
LPLB_HOST_DEVICE inline std::uint32_t next_epoch(std::uint32_t epoch) {
  return epoch == 0xFFFFFFFFu ? 2 : epoch + 1;
}
/// Whether `epoch` is a later round than `now`. This is right across the wrap too.
LPLB_HOST_DEVICE inline bool is_later(std::uint32_t epoch, std::uint32_t now) {
  return epoch != 0 && static_cast<std::int32_t>(epoch - now) > 0;
}

struct ExchangeLayout {
  std::int32_t num_ranks;
  std::int32_t lines_per_rank;

  static constexpr std::int64_t kAlign = 256;
  static constexpr std::int64_t kControlBytes = 256;
  LPLB_HOST_DEVICE static constexpr std::int64_t aligned(std::int64_t bytes) {
    return (bytes + kAlign - 1) / kAlign * kAlign;
  }

  static ExchangeLayout of(std::int32_t num_ranks, std::int64_t max_counts) {
    return {num_ranks, static_cast<std::int32_t>(1 + (max_counts + 1) / 2)};
  }
  std::int64_t table_bytes() const { return aligned(std::int64_t{8} * num_ranks); }
  std::int64_t channel_bytes() const {
    return aligned(kControlBytes + 2 * static_cast<std::int64_t>(sizeof(ExchangeLine)) * num_ranks *
                                       lines_per_rank);
  }
  std::int64_t channel(int index) const { return table_bytes() + index * channel_bytes(); }
  std::int64_t bytes(int num_channels) const { return channel(num_channels); }

  /// The offset, from the start of a channel, of the lines that `rank` writes in rounds of this
  /// parity.
  LPLB_HOST_DEVICE std::int64_t lines(std::uint32_t epoch, int rank) const {
    const auto half = static_cast<std::int64_t>(epoch & 1);
    return kControlBytes + static_cast<std::int64_t>(sizeof(ExchangeLine)) *
                               ((half * num_ranks + rank) * lines_per_rank);
  }
};
static_assert(sizeof(ExchangeControl) <= ExchangeLayout::kControlBytes);

/// One channel of a rank, as an argument of a kernel.
struct PeerArgs {
  unsigned char* own;               ///< this rank's buffer; null: no exchange
  const unsigned long long* peers;  ///< [num_ranks], addresses of all buffers; lies in `own`
  std::int64_t channel;             ///< offset in each buffer
  unsigned long long deadline_ns;
  ExchangeLayout layout;
  std::int32_t rank;
};

}  // namespace lplb::exchange
