// SPDX-License-Identifier: MIT
#pragma once

#include "plan/device/shared.cuh"

namespace lplb::plan {

/// Brings the counts together. A block sends its totals to the other blocks, and this rank's counts
/// to the other ranks. What the ranks counted comes to this block, one row for each member of the
/// group (Header::row_begin): the rows are given with the batch, or a round of the exchange brings
/// them. With staleness they are the counts of the previous batch.
class Rows {
 public:
  __device__ explicit Rows(Shared& shared) : s_(shared) {}

  /// Opens this block's mailboxes. Call it before the cluster's barrier.
  template <bool kExchange>
  __device__ void open_mailboxes(int num_blocks) {
    if (thread() != 0) return;
    device::open_mailbox(&s_.common().totals_box);
    if (!kExchange) return;
    device::open_mailbox(&s_.common().verdict_box);
    device::expect_bytes(&s_.common().verdict_box, num_blocks * static_cast<int>(sizeof(int)));
  }

  /// Sends this block's totals, with the bad ids last, to all blocks. Needs all blocks to have
  /// opened their mailboxes.
  __device__ void send_totals(int num_blocks) {
    if (num_blocks == 1) {
      s_.received_at = s_.a.layout.totals;
      return;
    }
    device::Mailbox& box = s_.common().totals_box;
    const int size = s_.h.num_columns + 1;
    if (thread() == 0) {
      device::expect_bytes(&box, num_blocks * size * static_cast<int>(sizeof(int)));
    }
    // Each receiver has an equal share of the threads: there are 2, 4 or 8 blocks.
    const int to = thread() & (num_blocks - 1);
    const int bits = __ffs(num_blocks) - 1;
    LPLB_ROLLED
    for (int c = thread() >> bits; c < size; c += kThreads >> bits) {
      device::send_to_block(&box, &s_.received(block_id())[c], to, s_.totals()[c]);
    }
  }
  /// Waits until the totals of all blocks are in received().
  __device__ void wait_for_totals(int num_blocks) {
    if (num_blocks > 1) device::wait_for_mail(&s_.common().totals_box);
  }

  /// Writes this block's totals to device memory.
  __device__ void put_totals(int* to) {
    LPLB_ROLLED
    for (int c = thread(); c <= s_.h.num_columns; c += kThreads) to[c] = s_.totals()[c];
  }

  /// Sends this rank's counts, which are the sum of `num_totals` totals in received(), to this
  /// block's share of the peers.
  __device__ void push(const exchange::PeerRound& round, int num_totals) {
    round.push(s_.h.num_columns, joined(s_.h.fingerprint), [&](int column) {
      int sum = 0;
      LPLB_ROLLED
      for (int block = 0; block < num_totals; ++block) sum += s_.received(block)[column];
      return sum;
    });
  }
  /// Waits for the counts of the other ranks. They are in the rows after the next barrier of the
  /// block.
  __device__ void take_rows(exchange::PeerRound& round) {
    take_rows(round, s_.h.num_columns, joined(s_.h.fingerprint));
  }
  /// This block's verdict of the round; after join_verdicts(), that of all blocks.
  __device__ exchange::PeerRound::SharedVerdict& verdict() const { return s_.common().verdict; }
  /// Sends the verdict to all blocks, after the barrier that follows take_rows(). Needs all blocks
  /// to have opened their mailboxes.
  __device__ void send_verdict(int num_blocks) {
    if (thread() == 0 && verdict().bits != 0 && s_.scalars().lost == 0)
      s_.scalars().lost = Shared::kLostRound;
    if (num_blocks == 1 || thread() >= num_blocks) return;
    device::send_to_block(&s_.common().verdict_box, &s_.common().verdicts[block_id()], thread(),
                          word_of(verdict()));
  }

  /// Waits for the verdicts of all blocks, on one thread, in parallel with the solver. A round that
  /// one block has lost is lost for all.
  __device__ __forceinline__ void join_verdicts(int num_blocks) {
    device::wait_for_mail(&s_.common().verdict_box);
    LPLB_ROLLED
    for (int block = 0; block < num_blocks; ++block) {
      const auto word = static_cast<unsigned>(s_.common().verdicts[block]);
      if (word == 0) continue;
      s_.common().verdict = {word & 15, static_cast<std::int32_t>(word >> 4)};
      s_.scalars().lost_by_one = 1;
    }
  }

  /// With staleness, before begin(): starts to copy what the previous batch left (Previous).
  __device__ void begin_previous() {
    if (thread() >= static_cast<int>(sizeof(Previous)) / 16) return;
    device::copy_16(reinterpret_cast<char*>(&s_.common().previous) + 16 * thread(),
                    reinterpret_cast<const char*>(s_.a.previous) + 16 * thread());
  }
  /// After open_image(): whether there are counts of the previous batch, with the same layout.
  /// Their round may still turn out to be lost.
  __device__ bool has_previous() const {
    const Previous& previous = s_.common().previous;
    return previous.is_there != 0 && previous.layout[0] == s_.h.layout[0] &&
           previous.layout[1] == s_.h.layout[1] && s_.a.all_counts != nullptr;
  }
  /// Like take_rows(), for the round that the previous batch pushed, and with this rank's own row.
  /// If that batch had another layout, it waits for the first line of each peer only. This shows
  /// that the peers have read what this batch's round will overwrite.
  __device__ void take_previous_rows(exchange::PeerRound& round) {
    const Previous& previous = s_.common().previous;
    if (previous.is_there == 0) return;
    take_rows(round, has_previous() ? s_.h.num_columns : 0, joined(previous.fingerprint));
    if (!has_previous()) return;
    LPLB_ROLLED
    for (int c = thread(); c < s_.h.num_columns; c += kThreads) {
      const int at = s_.a.row * s_.h.num_columns + c;
      if (s_.a.layout.has_rows != 0) device::copy_4(&at_rows()[at], &s_.a.packed[c]);
      if (keeps_rows()) s_.a.gathered[at] = s_.a.packed[c];
    }
  }
  /// Whether the previous batch pushed a round, which this batch has taken.
  __device__ bool has_round() const { return s_.common().previous.is_there != 0; }
  /// Makes the batch unplanned, because there are no counts of the previous batch. One thread calls
  /// it, before a barrier.
  __device__ void note_no_previous() { s_.scalars().lost = Shared::kNoPrevious; }
  /// Keeps this batch's counts and layout for the next batch. All threads of one block call it,
  /// after all blocks have read those of the previous batch. (A block has read them before it sends
  /// its totals.)
  __device__ void keep_previous() const {
    LPLB_ROLLED
    for (int c = thread(); c < s_.h.num_columns && s_.a.packed != nullptr; c += kThreads) {
      s_.a.packed[c] = s_.own()[c];
    }
    if (thread() != 0) return;
    *s_.a.previous = {
        {s_.h.fingerprint[0], s_.h.fingerprint[1]}, {s_.h.layout[0], s_.h.layout[1]}, 1, {}};
  }

  /// Adds to group_counts[column] what the other ranks counted; kStale: what all ranks counted.
  /// Needs the rows, and all copies to be complete.
  template <bool kStale>
  __device__ void add_ranks() {
    if (s_.a.all_counts == nullptr) return;
    const int skipped = kStale ? -1 : s_.a.row;
    if (s_.a.layout.has_rows != 0) {
      add_rows(at_rows(), skipped);
    } else {
      add_rows(s_.a.all_counts, skipped);
    }
  }

  /// Starts to copy the counts of all ranks to the rows, if they are given and fit.
  __device__ void copy() {
    if (s_.a.layout.has_rows == 0 || s_.a.all_counts == nullptr) return;
    int* const rows = &s_.at<int>(s_.a.layout.rows);
    const int size = s_.h.num_rows * s_.h.num_columns;
    const bool wide = reinterpret_cast<std::uintptr_t>(s_.a.all_counts) % 16 == 0;
    const int quads = wide ? size / 4 : 0;
    LPLB_ROLLED
    for (int i = thread(); i < quads; i += kThreads) {
      device::copy_16(rows + 4 * i, s_.a.all_counts + 4 * i);
    }
    LPLB_ROLLED
    for (int i = 4 * quads + thread(); i < size; i += kThreads) {
      device::copy_4(rows + i, s_.a.all_counts + i);
    }
  }

 private:
  __device__ int* at_rows() const { return &s_.at<int>(s_.a.layout.rows); }
  __device__ static unsigned long long joined(const std::uint32_t (&words)[2]) {
    return static_cast<unsigned long long>(words[1]) << 32 | words[0];
  }
  /// Whether gathered rows are also written to device memory.
  __device__ bool keeps_rows() const {
    return s_.a.layout.has_rows == 0 || s_.a.trace.own != nullptr;
  }
  /// Takes the `num_columns` counts that each peer pushed in a round.
  __device__ void take_rows(exchange::PeerRound& round, int num_columns,
                            unsigned long long fingerprint) {
    const bool to_memory = keeps_rows();
    round.gather(num_columns, fingerprint, [&](int row, int column, int count) {
      const int at = row * num_columns + column;
      if (to_memory) s_.a.gathered[at] = count;
      if (s_.a.layout.has_rows != 0) at_rows()[at] = count;
    });
    __syncwarp();  // the lanes leave gather() at different times
  }

  /// A verdict in one word; 0: the round was complete.
  __device__ static int word_of(const exchange::PeerRound::SharedVerdict& verdict) {
    return verdict.bits == 0
               ? 0
               : static_cast<int>(verdict.bits | static_cast<unsigned>(verdict.missing) << 4);
  }

  /// Adds `counts` [num_rows, num_columns] of all rows but `skipped` to group_counts. The threads
  /// share the columns; if there are fewer columns than threads, they also share the rows of a
  /// column. Inlined for each kind of memory, so that the compiler knows which one `counts` is in.
  __device__ __forceinline__ void add_rows(const int* counts, int skipped) {
    const int column = thread() & ((1 << s_.h.column_bits) - 1);
    const int begin = (thread() >> s_.h.column_bits) * s_.h.stretch_rows;
    const int end = min(begin + s_.h.stretch_rows, s_.h.num_rows);
    LPLB_ROLLED
    for (int c = column; c < s_.h.num_columns; c += kThreads) {
      add_rows(counts + c, &s_.group_counts()[c], begin, end, skipped);
    }
  }

  /// Adds the tokens of rows [begin, end) of one column to *group, without those of `skipped`.
  /// Notes counts that are not within [0, safe_count].
  __device__ __forceinline__ void add_rows(const int* counts, int* group, int begin, int end,
                                           int skipped) {
    int sum = 0;
    unsigned most = 0;
#pragma unroll 4
    for (int g = begin; g < end; ++g) {
      const int tokens = g == skipped ? 0 : counts[g * s_.h.num_columns];
      most = max(most, static_cast<unsigned>(tokens));
      sum = static_cast<int>(static_cast<unsigned>(sum) + static_cast<unsigned>(tokens));
    }
    if (most > static_cast<unsigned>(s_.h.safe_count)) s_.note_odd_count();
    if (begin < end) atomicAdd(reinterpret_cast<unsigned*>(group), static_cast<unsigned>(sum));
  }

  Shared& s_;
};

}  // namespace lplb::plan
