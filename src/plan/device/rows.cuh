// SPDX-License-Identifier: MIT
#pragma once

#include "exchange/peer/round.cuh"
#include "plan/device/entries.cuh"
#include "solve/device/fast_time.cuh"
#include "solve/device/solve_kernel.cuh"

namespace lplb::plan {

/// Brings the counts together. A block sends its totals to the other blocks, and this rank's counts
/// to the other ranks. What the ranks counted comes to this block, one row for each member of the
/// group (Header::row_begin): the rows are given with the batch, or a round of the exchange brings
/// them. With staleness they are the counts of the previous batch.
class Rows : public Entries {
 public:
  using Entries::Entries;

  /// Opens this block's mailboxes. Call it before the cluster's barrier.
  template <bool kExchange>
  __device__ void open_mailboxes(int num_blocks) {
    if (thread() != 0) return;
    device::open_mailbox(&common().totals_box);
    if (!kExchange) return;
    device::open_mailbox(&common().verdict_box);
    device::expect_bytes(&common().verdict_box, num_blocks * static_cast<int>(sizeof(int)));
  }

  /// Sends this block's totals, with the bad ids last, to all blocks. Needs all blocks to have
  /// opened their mailboxes.
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
    // Each receiver has an equal share of the threads: there are 2, 4 or 8 blocks.
    const int to = thread() & (num_blocks - 1);
    const int bits = __ffs(num_blocks) - 1;
    LPLB_ROLLED
    for (int c = thread() >> bits; c < size; c += kThreads >> bits) {
      device::send_to_block(&box, &received(static_cast<int>(blockIdx.x))[c], to, totals()[c]);
    }
  }
  /// Waits until the totals of all blocks are in received().
  __device__ void wait_for_totals(int num_blocks) {
    if (num_blocks > 1) device::wait_for_mail(&common().totals_box);
  }

  /// Writes this block's totals to device memory.
  __device__ void put_totals(int* to) {
    LPLB_ROLLED
    for (int c = thread(); c <= h_.num_columns; c += kThreads) to[c] = totals()[c];
  }

  /// Sends this rank's counts, which are the sum of `num_totals` totals in received(), to this
  /// block's share of the peers.
  __device__ void push(const exchange::PeerRound& round, int num_totals) {
    round.push(h_.num_columns, joined(h_.fingerprint), [&](int column) {
      int sum = 0;
      LPLB_ROLLED
      for (int block = 0; block < num_totals; ++block) sum += received(block)[column];
      return sum;
    });
  }
  /// Waits for the counts of the other ranks. They are in the rows after the next barrier of the
  /// block.
  __device__ void take_rows(exchange::PeerRound& round) {
    take_rows(round, h_.num_columns, joined(h_.fingerprint));
  }
  /// This block's verdict of the round; after join_verdicts(), that of all blocks.
  __device__ exchange::PeerRound::SharedVerdict& verdict() const { return common().verdict; }
  /// Sends the verdict to all blocks, after the barrier that follows take_rows(). Needs all blocks
  /// to have opened their mailboxes.
  __device__ void send_verdict(int num_blocks) {
    if (thread() == 0 && verdict().bits != 0 && scalars().lost == 0) scalars().lost = kLostRound;
    if (num_blocks == 1 || thread() >= num_blocks) return;
    device::send_to_block(&common().verdict_box, &common().verdicts[blockIdx.x], thread(),
                          word_of(verdict()));
  }

  /// Waits for the verdicts of all blocks, on one thread, in parallel with the solver. A round that
  /// one block has lost is lost for all.
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

  /// With staleness, before begin(): starts to copy what the previous batch left (Previous).
  __device__ void begin_previous() {
    if (thread() >= static_cast<int>(sizeof(Previous)) / 16) return;
    device::copy_16(reinterpret_cast<char*>(&common().previous) + 16 * thread(),
                    reinterpret_cast<const char*>(a_.previous) + 16 * thread());
  }
  /// After open_image(): whether there are counts of the previous batch, with the same layout.
  /// Their round may still turn out to be lost.
  __device__ bool has_previous() const {
    const Previous& previous = common().previous;
    return previous.is_there != 0 && previous.layout[0] == h_.layout[0] &&
           previous.layout[1] == h_.layout[1] && a_.all_counts != nullptr;
  }
  /// Like take_rows(), for the round that the previous batch pushed, and with this rank's own row.
  /// If that batch had another layout, it waits for the first line of each peer only. This shows
  /// that the peers have read what this batch's round will overwrite.
  __device__ void take_previous_rows(exchange::PeerRound& round) {
    const Previous& previous = common().previous;
    if (previous.is_there == 0) return;
    take_rows(round, has_previous() ? h_.num_columns : 0, joined(previous.fingerprint));
    if (!has_previous()) return;
    LPLB_ROLLED
    for (int c = thread(); c < h_.num_columns; c += kThreads) {
      const int at = a_.row * h_.num_columns + c;
      if (a_.layout.has_rows != 0) device::copy_4(&at_rows()[at], &a_.packed[c]);
      if (keeps_rows()) a_.gathered[at] = a_.packed[c];
    }
  }
  /// Whether the previous batch pushed a round, which this batch has taken.
  __device__ bool has_round() const { return common().previous.is_there != 0; }
  /// Makes the batch unplanned, because there are no counts of the previous batch. One thread calls
  /// it, before a barrier.
  __device__ void note_no_previous() { scalars().lost = kNoPrevious; }
  /// Keeps this batch's counts and layout for the next batch. All threads of one block call it,
  /// after all blocks have read those of the previous batch. (A block has read them before it sends
  /// its totals.)
  __device__ void keep_previous() const {
    LPLB_ROLLED
    for (int c = thread(); c < h_.num_columns && a_.packed != nullptr; c += kThreads) {
      a_.packed[c] = own()[c];
    }
    if (thread() != 0) return;
    *a_.previous = {{h_.fingerprint[0], h_.fingerprint[1]}, {h_.layout[0], h_.layout[1]}, 1, {}};
  }

  /// Adds to group_counts[column] what the other ranks counted; kStale: what all ranks counted.
  /// Needs the rows, and all copies to be complete.
  template <bool kStale>
  __device__ void add_ranks() {
    if (a_.all_counts == nullptr) return;
    const int skipped = kStale ? -1 : a_.row;
    if (a_.layout.has_rows != 0) {
      add_rows(at_rows(), skipped);
    } else {
      add_rows(a_.all_counts, skipped);
    }
  }

  __device__ bool has_bad_counts() { return (scalars().negative | scalars().misplaced) != 0; }
  /// Whether the batch cannot be solved, as far as this block knows by itself.
  __device__ bool is_refused() {
    return (scalars().lost | scalars().large) != 0 || has_bad_counts();
  }
  /// The same after solve(), when all blocks agree.
  __device__ bool is_degraded() { return scalars().lost_by_one != 0 || is_refused(); }

 protected:
  enum Lost {
    kLostRound = 1,  ///< the exchange was not complete
    kNoPrevious,     ///< with staleness: there are no counts to plan with
  };
  struct Scalars {
    /// A count or a sum is not within [0, safe_count]: the sums may have overflowed.
    int odd;
    int negative, misplaced;   ///< a count is negative; a column of kTargetNobody is not 0
    int large;                 ///< a sum of a column or of all columns exceeds 2^31 - 1
    int lost;                  ///< Lost
    int lost_by_one;           ///< one of the blocks lost the round; known after solve()
    int passes_step;           ///< with costs: an expert costs more than the first step
    unsigned long long total;  ///< of all columns, made by sum_wide()
  };

  /// The single values of a block.
  struct Common {
    device::Mailbox totals_box, verdict_box;
    int verdicts[kMaxBlocks];  // word_of() the verdicts of all blocks
    solvers::BlockOutcome outcome;
    solvers::TimeOutcome time_outcome;  // with costs
    Scalars scalars;
    exchange::PeerRound::SharedVerdict verdict;
    Previous previous;
  };
  static_assert(sizeof(Common) <= kCommonBytes);
  __device__ Common& common() const { return at<Common>(a_.layout.common); }
  __device__ Scalars& scalars() const { return common().scalars; }
  __device__ solvers::BlockOutcome& outcome() const { return common().outcome; }
  __device__ solvers::TimeOutcome& time_outcome() const { return common().time_outcome; }

  __device__ int* own() const { return &at<int>(a_.layout.own); }
  __device__ int* group_counts() const { return &at<int>(a_.layout.group_counts); }
  __device__ void note_odd_count() { atomicOr(&scalars().odd, 1); }

  __device__ void copy_rows() {
    if (a_.layout.has_rows == 0 || a_.all_counts == nullptr) return;
    int* const rows = &at<int>(a_.layout.rows);
    const int size = h_.num_rows * h_.num_columns;
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
  /// The count in `column` of a row. The rows are in shared memory if they fit there, otherwise in
  /// device memory.
  __device__ int row_count(int row, int column) const {
    const int i = row * h_.num_columns + column;
    return a_.layout.has_rows != 0 ? at_rows()[i] : a_.all_counts[i];
  }

 private:
  __device__ int* at_rows() const { return &at<int>(a_.layout.rows); }
  __device__ static unsigned long long joined(const std::uint32_t (&words)[2]) {
    return static_cast<unsigned long long>(words[1]) << 32 | words[0];
  }
  /// Whether gathered rows are also written to device memory.
  __device__ bool keeps_rows() const { return a_.layout.has_rows == 0 || a_.trace.own != nullptr; }
  /// Takes the `num_columns` counts that each peer pushed in a round.
  __device__ void take_rows(exchange::PeerRound& round, int num_columns,
                            unsigned long long fingerprint) {
    const bool to_memory = keeps_rows();
    round.gather(num_columns, fingerprint, [&](int row, int column, int count) {
      const int at = row * num_columns + column;
      if (to_memory) a_.gathered[at] = count;
      if (a_.layout.has_rows != 0) at_rows()[at] = count;
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
    const int column = thread() & ((1 << h_.column_bits) - 1);
    const int begin = (thread() >> h_.column_bits) * h_.stretch_rows;
    const int end = min(begin + h_.stretch_rows, h_.num_rows);
    LPLB_ROLLED
    for (int c = column; c < h_.num_columns; c += kThreads) {
      add_rows(counts + c, &group_counts()[c], begin, end, skipped);
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
      const int tokens = g == skipped ? 0 : counts[g * h_.num_columns];
      most = max(most, static_cast<unsigned>(tokens));
      sum = static_cast<int>(static_cast<unsigned>(sum) + static_cast<unsigned>(tokens));
    }
    if (most > static_cast<unsigned>(h_.safe_count)) note_odd_count();
    if (begin < end) atomicAdd(reinterpret_cast<unsigned*>(group), static_cast<unsigned>(sum));
  }
};

}  // namespace lplb::plan
