// SPDX-License-Identifier: MIT
#pragma once

#include "exchange/peer/round.cuh"
#include "plan/device/entries.cuh"
#include "solve/device/solve_kernel.cuh"

namespace lplb::plan {

/// A block's part in bringing all counts together: its totals go to the other blocks, this rank's
/// counts to the other ranks, and what the ranks counted, a row each, comes here: given, or by a
/// round of the exchange, of this batch or, with staleness, of the one before.
class Rows : public Entries {
 public:
  using Entries::Entries;

  /// Before a cluster's first barrier.
  template <bool kExchange>
  __device__ void open_mailboxes(int num_blocks) {
    if (thread() != 0) return;
    device::open_mailbox(&common().totals_box);
    if (!kExchange) return;
    device::open_mailbox(&common().verdict_box);
    device::expect_bytes(&common().verdict_box, num_blocks * static_cast<int>(sizeof(int)));
  }

  /// Hands this block's totals (of bad ids last) to all blocks, of which all have opened their
  /// mailboxes.
  __device__ void send_totals(int num_blocks) {
    if (num_blocks == 1) {
      received_ = a_.layout.totals;
      return;
    }
    device::Mailbox& box = common().totals_box;
    const int size = h_.num_columns + 1;
    if (thread() == 0) {
      device::expect_bytes(&box, num_blocks * size * static_cast<int>(sizeof(int)));
    }
    // Each block has its share of the threads: there are 2, 4 or 8.
    const int to = thread() & (num_blocks - 1);
    const int bits = __ffs(num_blocks) - 1;
    LPLB_ROLLED
    for (int c = thread() >> bits; c < size; c += kThreads >> bits) {
      device::send_to_block(&box, &received(static_cast<int>(blockIdx.x))[c], to, totals()[c]);
    }
  }
  /// Until those of all blocks are in received().
  __device__ void wait_for_totals(int num_blocks) {
    if (num_blocks > 1) device::wait_for_mail(&common().totals_box);
  }

  /// The totals to memory.
  __device__ void put_totals(int* to) {
    LPLB_ROLLED
    for (int c = thread(); c <= h_.num_columns; c += kThreads) to[c] = totals()[c];
  }

  /// Sends this rank's counts, from `num_totals` totals in received(), to the peers of this block.
  __device__ void push(const exchange::PeerRound& round, int num_totals) {
    round.push(h_.num_columns, joined(h_.fingerprint), [&](int column) {
      int sum = 0;
      LPLB_ROLLED
      for (int block = 0; block < num_totals; ++block) sum += received(block)[column];
      return sum;
    });
  }
  /// Waits for the counts of the others, which are in the rows after a barrier of the block.
  __device__ void take_rows(exchange::PeerRound& round) {
    take_rows(round, h_.num_columns, joined(h_.fingerprint));
  }
  /// This block's verdict of the round; after join_verdicts() that of all.
  __device__ exchange::PeerRound::SharedVerdict& verdict() const { return common().verdict; }
  /// After that barrier: tells the verdict to all blocks, of which all have opened their mailboxes.
  __device__ void send_verdict(int num_blocks) {
    if (thread() == 0 && verdict().bits != 0 && scalars().lost == 0) scalars().lost = kLostRound;
    if (num_blocks == 1 || thread() >= num_blocks) return;
    device::send_to_block(&common().verdict_box, &common().verdicts[blockIdx.x], thread(),
                          word_of(verdict()));
  }

  /// On one thread of a block, beside the solver: what one block has lost is lost for all.
  __device__ __forceinline__ void join_verdicts(int num_blocks) {
    device::wait_for_mail(&common().verdict_box);
    LPLB_ROLLED
    for (int block = 0; block < num_blocks; ++block) {
      const auto word = static_cast<unsigned>(common().verdicts[block]);
      if (word == 0) continue;
      common().verdict = {word & 15, static_cast<std::int32_t>(word >> 4)};
      scalars().lost_by_one = 1;
    }
  }

  /// With staleness, before begin(): starts to read what is known of the batch before.
  __device__ void begin_previous() {
    if (thread() >= static_cast<int>(sizeof(Previous)) / 16) return;
    device::copy_16(reinterpret_cast<char*>(&common().previous) + 16 * thread(),
                    reinterpret_cast<const char*>(a_.previous) + 16 * thread());
  }
  /// After open_image(): whether there are counts to plan with, complete or not.
  __device__ bool has_previous() const {
    const Previous& previous = common().previous;
    return previous.is_there != 0 && previous.layout[0] == h_.layout[0] &&
           previous.layout[1] == h_.layout[1] && a_.all_counts != nullptr;
  }
  /// As take_rows(), of the round that the batch before pushed, this rank's row too. Of a layout
  /// that has gone only word that the peers have read what this batch's round is to overwrite.
  __device__ void take_previous_rows(exchange::PeerRound& round) {
    const Previous& previous = common().previous;
    if (previous.is_there == 0) return;
    take_rows(round, has_previous() ? h_.num_columns : 0, joined(previous.fingerprint));
    if (!has_previous()) return;
    LPLB_ROLLED
    for (int c = thread(); c < h_.num_columns; c += kThreads) {
      const int at = a_.rank * h_.num_columns + c;
      if (a_.layout.has_rows != 0) device::copy_4(&at_rows()[at], &a_.packed[c]);
      if (keeps_rows()) a_.gathered[at] = a_.packed[c];
    }
  }
  /// Whether there was a round before to be taken.
  __device__ bool has_round() const { return common().previous.is_there != 0; }
  /// On one thread, where nothing is known of the batch before, and before a barrier.
  __device__ void note_no_previous() { scalars().lost = kNoPrevious; }
  /// With all of the batch before read, by all threads of one block: keeps this one's in its place.
  __device__ void keep_previous() const {
    LPLB_ROLLED
    for (int c = thread(); c < h_.num_columns && a_.packed != nullptr; c += kThreads) {
      a_.packed[c] = own()[c];
    }
    if (thread() != 0) return;
    *a_.previous = {{h_.fingerprint[0], h_.fingerprint[1]}, {h_.layout[0], h_.layout[1]}, 1, {}};
  }

  /// group[column] = what the other ranks counted; kStale: all ranks. Needs the rows, and all that
  /// was copied.
  template <bool kStale>
  __device__ void add_ranks() {
    if (a_.all_counts == nullptr) return;
    const int skipped = kStale ? -1 : a_.rank;
    if (a_.layout.has_rows != 0) {
      add_rows(at_rows(), skipped);
    } else {
      add_rows(a_.all_counts, skipped);
    }
  }

  __device__ bool has_bad_counts() { return (scalars().negative | scalars().misplaced) != 0; }
  /// As far as this block knows by itself.
  __device__ bool is_refused() {
    return (scalars().lost | scalars().large) != 0 || has_bad_counts();
  }
  /// After solve().
  __device__ bool is_degraded() { return scalars().lost_by_one != 0 || is_refused(); }

 protected:
  enum Lost {
    kLostRound = 1,  ///< the exchange was not complete
    kNoPrevious,     ///< with staleness: there are no counts to plan with
  };
  struct Scalars {
    int odd;  ///< a count or a sum is not within [0, safe_count]: the sums may have overflowed
    int negative, misplaced;
    int large;                 ///< a sum past 2^31 - 1, of a column or of all
    int lost;                  ///< Lost
    int lost_by_one;           ///< by any block, after solve()
    unsigned long long total;  ///< of sum_wide()
  };

  /// Single values of a block.
  struct Common {
    device::Mailbox totals_box, verdict_box;
    int verdicts[kMaxBlocks];  // word_of(), of all blocks
    solvers::BlockOutcome outcome;
    Scalars scalars;
    exchange::PeerRound::SharedVerdict verdict;
    Previous previous;
  };
  static_assert(sizeof(Common) <= kCommonBytes);
  __device__ Common& common() const { return at<Common>(a_.layout.common); }
  __device__ Scalars& scalars() const { return common().scalars; }
  __device__ solvers::BlockOutcome& outcome() const { return common().outcome; }

  __device__ int* own() const { return &at<int>(a_.layout.own); }
  __device__ int* group_counts() const { return &at<int>(a_.layout.group_counts); }
  __device__ void note_odd_count() { atomicOr(&scalars().odd, 1); }

  __device__ void copy_rows() {
    if (a_.layout.has_rows == 0 || a_.all_counts == nullptr) return;
    int* const rows = &at<int>(a_.layout.rows);
    const int size = h_.num_ranks * h_.num_columns;
    const bool wide = reinterpret_cast<std::uintptr_t>(a_.all_counts) % 16 == 0;
    const int quads = wide ? size / 4 : 0;
    LPLB_ROLLED
    for (int i = thread(); i < quads; i += kThreads) {
      device::copy_16(rows + 4 * i, a_.all_counts + 4 * i);
    }
    LPLB_ROLLED
    for (int i = 4 * quads + thread(); i < size; i += kThreads) {
      device::copy_4(rows + i, a_.all_counts + i);
    }
  }
  /// Of the counts of all ranks, which are in shared memory where that is large enough.
  __device__ int row_count(int rank, int column) const {
    const int i = rank * h_.num_columns + column;
    return a_.layout.has_rows != 0 ? at_rows()[i] : a_.all_counts[i];
  }

 private:
  __device__ int* at_rows() const { return &at<int>(a_.layout.rows); }
  __device__ static unsigned long long joined(const std::uint32_t (&words)[2]) {
    return static_cast<unsigned long long>(words[1]) << 32 | words[0];
  }
  /// Whether rows are in device memory too.
  __device__ bool keeps_rows() const { return a_.layout.has_rows == 0 || a_.trace.own != nullptr; }
  /// What the peers pushed in a round, of `num_columns` each.
  __device__ void take_rows(exchange::PeerRound& round, int num_columns,
                            unsigned long long fingerprint) {
    const bool to_memory = keeps_rows();
    round.gather(num_columns, fingerprint, [&](int rank, int column, int count) {
      const int at = rank * num_columns + column;
      if (to_memory) a_.gathered[at] = count;
      if (a_.layout.has_rows != 0) at_rows()[at] = count;
    });
    __syncwarp();  // lanes come one by one
  }

  /// A verdict in one word, 0: the round was complete.
  __device__ static int word_of(const exchange::PeerRound::SharedVerdict& verdict) {
    return verdict.bits == 0
               ? 0
               : static_cast<int>(verdict.bits | static_cast<unsigned>(verdict.missing) << 4);
  }

  /// `counts` [num_ranks, num_columns], in memory that the compiler knows; of all ranks but one.
  __device__ __forceinline__ void add_rows(const int* counts, int skipped) {
    const int column = thread() & ((1 << h_.column_bits) - 1);
    const int begin = (thread() >> h_.column_bits) * h_.stretch_ranks;
    const int end = min(begin + h_.stretch_ranks, h_.num_ranks);
    LPLB_ROLLED
    for (int c = column; c < h_.num_columns; c += kThreads) {
      add_rows(counts + c, &group_counts()[c], begin, end, skipped);
    }
  }

  /// *group += the tokens of ranks [begin, end) of a column, those of `skipped` aside.
  __device__ __forceinline__ void add_rows(const int* counts, int* group, int begin, int end,
                                           int skipped) {
    int sum = 0;
    unsigned most = 0;
#pragma unroll 4
    for (int g = begin; g < end; ++g) {
      const int tokens = g == skipped ? 0 : counts[g * h_.num_columns];
      most = max(most, static_cast<unsigned>(tokens));
      sum = static_cast<int>(static_cast<unsigned>(sum) + static_cast<unsigned>(tokens));
    }
    if (most > static_cast<unsigned>(h_.safe_count)) note_odd_count();
    if (begin < end) atomicAdd(reinterpret_cast<unsigned*>(group), static_cast<unsigned>(sum));
  }
};

}  // namespace lplb::plan
