// SPDX-License-Identifier: MIT
#pragma once

#include "core/ptx.cuh"
#include "core/slices.cuh"
#include "exchange/peer/layout.h"

namespace lplb::exchange {

/// Stores a line in a peer's memory. NOTE: the line is stored as two scalars of 8 bytes, because
/// the memory model keeps each of them whole. Four scalars of 4 bytes could tear a count from its
/// epoch.
__device__ inline void store_line(void* line, ExchangeWord a, ExchangeWord b) {
  const auto bits = [](ExchangeWord w) {
    return static_cast<unsigned long long>(w.epoch) << 32 | w.data;
  };
  device::store_words(line, bits(a), bits(b));
}

__device__ inline ExchangeLine load_line(const void* line) {
  unsigned long long a, b;
  device::load_words(line, &a, &b);
  const auto word = [](unsigned long long bits) {
    return ExchangeWord{static_cast<std::uint32_t>(bits), static_cast<std::uint32_t>(bits >> 32)};
  };
  return {{word(a), word(b)}};
}

/// Counts a round that ended with this verdict. One thread calls it. NOTE: the additions are atomic
/// only so that this thread need not wait for the old values of the counters.
__device__ inline void count_round(ExchangeControl& c, std::uint32_t verdict) {
  atomicAdd(&c.rounds, 1ull);
  if (verdict == 0) return;
  // A round counts under one reason only, even if there were several.
  atomicAdd((verdict & kVerdictMismatched) != 0 ? &c.mismatched
            : (verdict & kVerdictBehind) != 0   ? &c.behind
                                                : &c.timed_out,
            1ull);
}

/// A Wire to peers whose memory this device can access: it stores lines there directly.
class StoreWire {
 public:
  __device__ explicit StoreWire(const PeerArgs& args) : a_(args) {}

  /// Reads where a peer's buffer is. This needs no counts, so it can be called early.
  __device__ unsigned long long look_up(int peer) const { return a_.peers[peer]; }
  /// Returns where a warp writes its lines for a peer. After that the whole warp calls send().
  __device__ ExchangeLine* open(int, unsigned long long found, std::uint32_t epoch) const {
    return reinterpret_cast<ExchangeLine*>(found + a_.channel + a_.layout.lines(epoch, a_.rank));
  }
  __device__ void send(int, int, std::uint32_t) const {}
  /// Whether this round's lines from a peer may have come.
  __device__ bool has_come(int) const { return true; }

 private:
  const PeerArgs& a_;
};

/// One round of a channel: an all-gather of `num_counts` integers for each rank. A rank writes
/// lines, which carry counts and epoch together, into its peers' buffers, and polls its own buffer.
/// It needs no fence and no barrier; docs/design/0008 says why that is safe. The Wire decides how
/// lines travel.
///
/// The blocks of a cluster share the push: a warp serves one peer at a time, its lanes write the
/// lines. Each block gathers all counts for itself. All threads of each block call, in this order:
///   begin(); push(); gather(); (barrier of the block) verdict(); on one thread finish().
/// If one kernel pushes a round and the next kernel gathers it, they call instead:
///   resume(); gather(), except for the first round; advance(); push(); on one thread count(), if
///   it gathered, and close(). No block may push before all blocks have gathered.
/// The shared state is one SharedVerdict for each block, which must be zero before gather(). If
/// blocks come to different verdicts, none may use what it gathered, so the caller must let them
/// tell each other.
template <class Wire>
class WireRound {
 public:
  /// The verdict of a block, in shared memory.
  struct SharedVerdict {
    std::uint32_t bits;
    std::int32_t missing;
  };

  __device__ WireRound(const PeerArgs& args, const Wire& wire, SharedVerdict& shared, int block,
                       int num_blocks)
      : a_(args),
        wire_(wire),
        shared_(shared),
        warp_(block + num_blocks * (static_cast<int>(threadIdx.x) / device::kWarpSize)),
        num_warps_(num_blocks * (static_cast<int>(blockDim.x) / device::kWarpSize)) {}

  /// Reads what can be known before the counts: which round it is, and where the first peer's
  /// buffer is.
  __device__ void begin() {
    resume();
    advance();
  }
  /// Reads the same for the round that was pushed last.
  __device__ void resume() {
    epoch_ = control().epoch;
    first_found_ = warp_ < num_peers() ? wire_.look_up(peer(warp_)) : 0;
  }
  /// Goes to the next round.
  __device__ void advance() { epoch_ = next_epoch(epoch_); }

  /// Sends value(column) for the columns [0, num_counts) to the peers of this block.
  template <class Value>
  __device__ void push(int num_counts, unsigned long long fingerprint, Value value) const {
    const int num_lines = lines_of(num_counts);
    LPLB_ROLLED
    for (int i = warp_; i < num_peers(); i += num_warps_) {
      const int to = peer(i);
      ExchangeLine* const lines =
          wire_.open(to, i == warp_ ? first_found_ : wire_.look_up(to), epoch_);
      LPLB_ROLLED
      for (int line = device::lane_id(); line < num_lines; line += device::kWarpSize) {
        const int c = 2 * (line - 1);
        std::uint32_t a, b = 0;
        if (line == 0) {
          a = static_cast<std::uint32_t>(fingerprint);
          b = static_cast<std::uint32_t>(fingerprint >> 32);
        } else {
          a = static_cast<std::uint32_t>(value(c));
          if (c + 1 < num_counts) b = static_cast<std::uint32_t>(value(c + 1));
        }
        store_line(lines + line, {a, epoch_}, {b, epoch_});
      }
      wire_.send(to, num_lines, epoch_);
    }
  }

  /// Waits for all peers and calls store(rank, column, count) for each count. Returns when all
  /// counts are there. Also returns if the deadline has passed or the block knows that the round is
  /// lost; then some counts may be missing.
  template <class Store>
  __device__ void gather(int num_counts, unsigned long long fingerprint, Store store) {
    const unsigned long long give_up = device::now_ns() + a_.deadline_ns;
    const int num_lines = lines_of(num_counts);
    const int num_warps = static_cast<int>(blockDim.x) / device::kWarpSize;
    LPLB_ROLLED
    for (int i = static_cast<int>(threadIdx.x) / device::kWarpSize; i < num_peers();
         i += num_warps) {
      const int from = peer(i);
      const auto* const lines = reinterpret_cast<const ExchangeLine*>(
          a_.own + a_.channel + a_.layout.lines(epoch_, from));
      LPLB_ROLLED
      for (int first = device::lane_id(); first < num_lines;
           first += device::kWarpSize * kInFlight) {
        if (!take_lines(lines, first, num_lines, from, give_up, num_counts, fingerprint, store)) {
          return;
        }
      }
    }
  }

  /// Returns ExchangeVerdict bits; 0: complete. Call it after a barrier of the block.
  __device__ std::uint32_t verdict() const { return shared_.bits; }

  /// Ends the round. One thread of one block calls it, after that barrier.
  __device__ void finish() const {
    close();
    count();
  }
  /// The two parts of finish(): close() ends the push, count() records the verdict.
  __device__ void close() const { control().epoch = epoch_; }
  __device__ void count() const {
    ExchangeControl& c = control();
    if (verdict() != 0) c.missing = shared_.missing;
    count_round(c, verdict());
  }

 private:
  static constexpr int kInFlight = 4;  // lines that a lane waits for at once

  __device__ ExchangeControl& control() const {
    return *reinterpret_cast<ExchangeControl*>(a_.own + a_.channel);
  }
  __device__ int num_peers() const { return a_.layout.num_ranks - 1; }
  /// Each rank has its peers in another order, so that not all ranks store to the same one at a
  /// time.
  __device__ int peer(int i) const {
    const int rank = a_.rank + 1 + i;
    return rank < a_.layout.num_ranks ? rank : rank - a_.layout.num_ranks;
  }
  __device__ static int lines_of(int num_counts) { return 1 + (num_counts + 1) / 2; }

  /// Takes the lines first, first + kWarpSize ... of a peer. Returns false if the round is lost.
  template <class Store>
  __device__ bool take_lines(const ExchangeLine* lines, int first, int num_lines, int from,
                             unsigned long long give_up, int num_counts,
                             unsigned long long fingerprint, Store& store) {
    const int count =
        min(kInFlight, (num_lines - first + device::kWarpSize - 1) / device::kWarpSize);
    unsigned waiting = (1u << count) - 1;
    while (true) {
      ExchangeLine line[kInFlight];
      const bool has_come = wire_.has_come(from);
#pragma unroll
      for (int i = 0; i < kInFlight; ++i) {
        if ((waiting >> i & 1) != 0) line[i] = load_line(lines + first + i * device::kWarpSize);
      }
#pragma unroll
      for (int i = 0; i < kInFlight; ++i) {
        if ((waiting >> i & 1) == 0 || !has_come) continue;
        const ExchangeWord a = line[i].word[0];
        const ExchangeWord b = line[i].word[1];
        if (a.epoch != epoch_ || b.epoch != epoch_) {
          if (is_later(a.epoch, epoch_) || is_later(b.epoch, epoch_)) {
            return lose(kVerdictBehind, from);
          }
          continue;
        }
        waiting &= ~(1u << i);
        const int at = first + i * device::kWarpSize;
        if (at == 0) {
          if ((static_cast<unsigned long long>(b.data) << 32 | a.data) != fingerprint) {
            return lose(kVerdictMismatched, from);
          }
          continue;
        }
        const int c = 2 * (at - 1);
        store(from, c, static_cast<int>(a.data));
        if (c + 1 < num_counts) store(from, c + 1, static_cast<int>(b.data));
      }
      if (waiting == 0) return true;
      if (*static_cast<volatile std::uint32_t*>(&shared_.bits) != 0) return false;
      if (device::now_ns() > give_up) return lose(kVerdictTimedOut, from);
    }
  }

  /// Tells the block that the round is lost.
  __device__ bool lose(ExchangeVerdict why, int from) {
    atomicMax(&shared_.missing, from);
    atomicOr(&shared_.bits, static_cast<std::uint32_t>(why));
    return false;
  }

  const PeerArgs& a_;
  const Wire wire_;
  SharedVerdict& shared_;
  const int warp_;  // this warp's number in the cluster; consecutive ones are in different blocks
  const int num_warps_;
  std::uint32_t epoch_ = 0;
  unsigned long long first_found_ = 0;
};

/// A round of ranks that can access each other's memory.
class PeerRound : public WireRound<StoreWire> {
 public:
  __device__ PeerRound(const PeerArgs& args, SharedVerdict& shared, int block, int num_blocks)
      : WireRound(args, StoreWire(args), shared, block, num_blocks) {}
};

}  // namespace lplb::exchange
