// SPDX-License-Identifier: MIT
#pragma once

#include "exchange/peer_round.cuh"
#include "map/sums.h"
#include "planner_entries.cuh"
#include "solve/solve_kernel.cuh"

namespace lplb {

/// A block's part of a batch, as steps that the kernels put together. Every thread of the block
/// calls each step; a step says where it ends in a barrier of the block, and what it needs.
class PlanBlock : public PlanEntries {
 public:
  using PlanEntries::PlanEntries;

  /// Starts the reads that need to know nothing, entries included (`with_entries`), and clears the
  /// counters.
  __device__ void begin(bool with_entries) {
    copy_image(0, min(kFirstBytes, a_.layout.image_bytes));
    if (with_entries) stage(0);
    read_valid();
    auto* const counters = &at<uint4>(a_.layout.counters);
    LPLB_ROLLED
    for (int i = thread(); i < a_.layout.counters_bytes / 16; i += kPlanThreads) {
      counters[i] = uint4{0, 0, 0, 0};
    }
    if (thread() == 0) {
      scalars_() = {};
      outcome_() = {};
    }
  }

  /// Waits for the image; the header can be read from here on. Starts the reads of all ranks'
  /// counts (where `with_rows`) and of what is left of the image, for the solver. Ends in a
  /// barrier.
  __device__ void open_image(bool with_rows) {
    device::wait_for_copies();
    __syncthreads();
    h_ = at<PlanHeader>(a_.layout.image);
    copy_image(kFirstBytes, h_.bytes);
    if (h_.solver > kFirstBytes) {  // the steps before the solver need more than came first
      device::wait_for_copies();
      __syncthreads();
    }
    if (with_rows) copy_rows();
  }

  /// Before a cluster's first barrier.
  __device__ void open_mailbox() {
    if (thread() == 0) device::open_mailbox(&mailbox_());
  }

  /// Hands this block's totals (of bad ids last) to all blocks, of which all have opened their
  /// mailboxes, and waits for theirs.
  __device__ void share_totals(int num_blocks) {
    const int size = h_.num_columns + 1;
    if (num_blocks == 1) {
      LPLB_ROLLED
      for (int c = thread(); c < size; c += kPlanThreads) received(0)[c] = totals()[c];
      __syncthreads();
      return;
    }
    if (thread() == 0) {
      device::expect_bytes(&mailbox_(), num_blocks * size * static_cast<int>(sizeof(int)));
    }
    // Each block has its share of the threads.
    const int lanes = kPlanThreads / num_blocks;
    const int to = thread() / lanes;
    LPLB_ROLLED
    for (int c = thread() % lanes; c < size; c += lanes) {
      device::send_to_block(&mailbox_(), &received(static_cast<int>(blockIdx.x))[c], to,
                            totals()[c]);
    }
    device::wait_for_mail(&mailbox_());
  }

  /// One round of the exchange, from this rank's `num_totals` totals in received() to rows(). All
  /// threads of the cluster's `num_blocks` blocks call it, with all totals there; rows() are there
  /// after a barrier of the cluster.
  __device__ void exchange(device::PeerRound& round, int num_totals, int num_blocks) {
    const unsigned long long fingerprint =
        static_cast<unsigned long long>(h_.fingerprint[1]) << 32 | h_.fingerprint[0];
    round.push(h_.num_columns, fingerprint, [&](int column) {
      int sum = 0;
      LPLB_ROLLED
      for (int block = 0; block < num_totals; ++block) sum += received(block)[column];
      return sum;
    });
    const bool to_memory = a_.layout.has_rows == 0 || a_.trace.own != nullptr;
    round.gather(h_.num_columns, fingerprint, [&](int rank, int column, int count) {
      const int at = rank * h_.num_columns + column;
      if (to_memory) a_.gathered[at] = count;
      if (a_.layout.has_rows == 0) return;
      int* const row = &at_rows()[at];
      if (num_blocks == 1) {
        *row = count;
        return;
      }
      LPLB_ROLLED
      for (int to = 0; to < num_blocks; ++to) device::store_in_block(row, to, count);
    });
    __syncwarp();  // lanes come one by one; a barrier of the cluster wants whole warps
  }

  /// Of a round that this block takes part in.
  __device__ device::PeerRound::SharedVerdict& verdict() const { return common().verdict; }
  /// After that barrier, on one thread of each block.
  __device__ void note_verdict(std::uint32_t verdict) { scalars_().lost = verdict != 0 ? 1 : 0; }

  /// The totals to memory.
  __device__ void put_totals(int* to) {
    LPLB_ROLLED
    for (int c = thread(); c <= h_.num_columns; c += kPlanThreads) to[c] = totals()[c];
  }

  /// group[column] = what the other ranks counted; fixed = 0. Needs rows(), and all that was
  /// copied.
  __device__ void add_other_ranks() {
    int* const fixed = state().fixed;
    LPLB_ROLLED
    for (int g = thread(); g < h_.num_ranks; g += kPlanThreads) fixed[g] = 0;
    if (a_.all_counts == nullptr) return;
    if (h_.num_columns > kPlanThreads) {
      LPLB_ROLLED
      for (int c = thread(); c < h_.num_columns; c += kPlanThreads) add_ranks(c, 0, h_.num_ranks);
      return;
    }
    // As many threads as there are take stretches of the ranks.
    const int stretches = kPlanThreads / h_.num_columns;
    const int ranks = (h_.num_ranks + stretches - 1) / stretches;
    const int stretch = thread() / h_.num_columns;
    add_ranks(thread() - stretch * h_.num_columns, min(stretch * ranks, h_.num_ranks),
              min((stretch + 1) * ranks, h_.num_ranks));
  }

  /// own and group from the blocks' totals, what the solver takes, and whether it may. Needs the
  /// totals in received(). Ends in a barrier.
  __device__ void gather(int num_blocks) {
    const solvers::BlockState solver = state();
    int high = 0;
    int low = 0;
    bool large = false;
    bool misplaced = false;
    LPLB_ROLLED
    for (int c = thread(); c < h_.num_columns; c += kPlanThreads) {
      const int target = list<int>(h_.targets)[c];
      int own_sum = 0;
      int earlier = 0;
#pragma unroll
      for (int block = 0; block < kMaxPlanBlocks; ++block) {
        if (block >= num_blocks) break;
        const int tokens = received(block)[c];
        own_sum += tokens;
        earlier += block < static_cast<int>(blockIdx.x) ? tokens : 0;
      }
      if (c < h_.num_replicated) before_block()[c] = earlier;
      own()[c] = own_sum;
      const long long wide = static_cast<long long>(group()[c]) + own_sum;
      large |= wide > INT32_MAX;
      const int sum = static_cast<int>(wide);
      group()[c] = sum;
      high += (sum >> 16) & 0x7FFF;
      low += sum & 0xFFFF;
      const int index = target & kTargetMask;
      switch (target & ~kTargetMask) {
        case kTargetWant:
          solver.want[index] = sum;
          break;
        // NOTE: unsigned, for sums that overflow and are refused.
        case kTargetFixed:
          atomicAdd(reinterpret_cast<unsigned*>(&solver.fixed[index]), static_cast<unsigned>(sum));
          break;
        default:
          misplaced |= sum != 0;
          break;
      }
    }
    if (thread() < device::kRow * device::div_up(h_.num_columns, device::kRow)) {
      high = __reduce_add_sync(~0u, high);
      low = __reduce_add_sync(~0u, low);
      if (device::lane_id() == 0) {
        atomicAdd(&scalars_().high, high);
        atomicAdd(&scalars_().low, low);
      }
      if (large) atomicOr(&scalars_().large, 1);
      if (misplaced) atomicOr(&scalars_().misplaced, 1);
    }
    __syncthreads();
  }

  __device__ bool has_bad_counts() { return (scalars_().negative | scalars_().misplaced) != 0; }
  __device__ long long total() {
    return (static_cast<long long>(scalars_().high) << 16) + scalars_().low;
  }
  __device__ bool is_degraded() {
    return scalars_().lost != 0 || has_bad_counts() || scalars_().large != 0 || total() > INT32_MAX;
  }

  /// The first threads solve; the others make the sums that the segments need. Ends in a barrier.
  template <bool kCut>
  __device__ void solve() {
    if (thread() < h_.solver_threads) {
      if (!is_degraded()) {
        const solvers::BlockOutcome outcome = run_solver<kCut>();
        if (thread() == 0) outcome_() = outcome;
      }
    } else {
      sum_ranks(thread() - h_.solver_threads, kPlanThreads - h_.solver_threads);
    }
    __syncthreads();
    h_ = at<PlanHeader>(a_.layout.image);  // again, so that no register holds it over the solver
  }

  /// segments of each expert of which this rank has tokens, and what map() reads of them first.
  /// Ends in a barrier.
  __device__ void make_segments() {
    const bool degraded = is_degraded();
    if (!degraded) {
      const int* const take = state().take;
      LPLB_ROLLED
      for (int i = thread(); i < h_.num_replicas; i += kPlanThreads) quota()[i] = quota_of(i, take);
      __syncthreads();
    }
    const bool is_one_node = h_.ranks_per_node == h_.num_ranks;
    const int first_rank = is_one_node ? 0 : map_rank() / h_.ranks_per_node * h_.ranks_per_node;
    LPLB_ROLLED
    for (int k = thread(); k < h_.num_replicated; k += kPlanThreads) {
      if (own()[k] == 0) continue;
      const int begin = list<std::uint16_t>(h_.replica_begin)[k];
      const int count = list<std::uint16_t>(h_.replica_begin)[k + 1] - begin;
      const int* const physical = list<int>(h_.physical) + begin;
      if (degraded) {
        divide_evenly(physical, count, list<char>(h_.alive), h_.slots_per_rank, own()[k],
                      list<std::uint16_t>(h_.logical)[k] + map_rank(), segments() + begin);
      } else {
        const map::SummedExpert<int> expert{physical,
                                            list<std::uint16_t>(h_.replica_rank) + begin,
                                            quota() + begin,
                                            &at<int>(a_.layout.rank_tokens) + begin,
                                            &at<int>(a_.layout.node_tokens) + begin,
                                            count,
                                            h_.ranks_per_node,
                                            own()[k],
                                            before_rank()[k],
                                            before_node()[k]};
        map::assign_by_sums(expert, map_rank(), first_rank, segments() + begin);
      }
      make_head(k);
    }
    __syncthreads();
  }

  /// One thread of one block tells what happened: planner_report.cuh.
  __device__ void report(int num_blocks);

 private:
  struct Scalars {
    int high, low;  ///< parts of the sum of all counts that cannot overflow
    int negative, large, misplaced;
    int lost;  ///< the exchange was not complete
    int unused[2];
  };

  __device__ int* own() const { return &at<int>(a_.layout.own); }
  __device__ int* group() const { return &at<int>(a_.layout.group); }
  __device__ int* before_block() const { return &at<int>(a_.layout.before_block); }
  __device__ int* before_rank() const { return &at<int>(a_.layout.before_rank); }
  __device__ int* before_node() const { return &at<int>(a_.layout.before_node); }
  __device__ int* quota() const { return &at<int>(a_.layout.quota); }
  /// Single values of a block.
  struct Common {
    device::Mailbox mailbox;
    solvers::BlockOutcome outcome;
    Scalars scalars;
    device::PeerRound::SharedVerdict verdict;
  };
  static_assert(sizeof(Common) <= kPlanCommonBytes);
  __device__ Common& common() const { return at<Common>(a_.layout.common); }
  __device__ Scalars& scalars_() const { return common().scalars; }
  __device__ device::Mailbox& mailbox_() const { return common().mailbox; }
  __device__ solvers::BlockOutcome& outcome_() const { return common().outcome; }

  /// group[column] += the tokens of ranks [begin, end), this one's aside.
  __device__ __forceinline__ void add_ranks(int column, int begin, int end) {
    const int* const counts = rows() + column;
    long long sum = 0;
    int signs = 0;
#pragma unroll 4
    for (int g = begin; g < end; ++g) {
      const int tokens = g == a_.rank ? 0 : counts[g * h_.num_columns];
      signs |= tokens;
      sum += tokens;
    }
    if (signs < 0) atomicOr(&scalars_().negative, 1);
    if (sum > INT32_MAX) atomicOr(&scalars_().large, 1);
    if (begin == end || sum == 0) return;
    const int before = atomicAdd(&group()[column], static_cast<int>(sum));
    // Nobody's sum overflows unseen: partial sums of counts that are sound only grow.
    if (before + static_cast<long long>(static_cast<int>(sum)) > INT32_MAX) {
      atomicOr(&scalars_().large, 1);
    }
  }

  /// Counts of all ranks: in shared memory where that is large enough.
  __device__ const int* rows() const { return a_.layout.has_rows != 0 ? at_rows() : a_.all_counts; }
  __device__ int* at_rows() const { return &at<int>(a_.layout.rows); }
  __device__ void copy_rows() {
    if (a_.layout.has_rows == 0 || a_.all_counts == nullptr) return;
    int* const rows = &at<int>(a_.layout.rows);
    const int size = h_.num_ranks * h_.num_columns;
    const bool wide = reinterpret_cast<std::uintptr_t>(a_.all_counts) % 16 == 0;
    const int quads = wide ? size / 4 : 0;
    LPLB_ROLLED
    for (int i = thread(); i < quads; i += kPlanThreads) {
      device::copy_16(rows + 4 * i, a_.all_counts + 4 * i);
    }
    LPLB_ROLLED
    for (int i = 4 * quads + thread(); i < size; i += kPlanThreads) {
      device::copy_4(rows + i, a_.all_counts + i);
    }
  }

  /// Where every rank has the same tokens, all of them map what they would on rank 0 alone.
  __device__ int map_rank() const { return a_.all_counts != nullptr ? a_.rank : 0; }
  __device__ int tokens_of(int rank, int k) const {
    if (rank == map_rank()) return own()[k];
    return a_.all_counts != nullptr ? rows()[rank * h_.num_columns + k] : 0;
  }
  __device__ int sum_tokens(int begin, int end, int k) const {
    int sum = 0;
    LPLB_ROLLED
    for (int g = begin; g < end; ++g) sum += tokens_of(g, k);
    return sum;
  }

  /// `worker` of `num_workers` threads, beside the solver.
  __device__ void sum_ranks(int worker, int num_workers) {
    const int per_node = h_.ranks_per_node;
    LPLB_ROLLED
    for (int i = worker; i < h_.num_replicas; i += num_workers) {
      const int k = list<PlanReplica>(h_.replicas)[i].column;
      const int rank = list<std::uint16_t>(h_.replica_rank)[i];
      const int first = rank / per_node * per_node;
      (&at<int>(a_.layout.rank_tokens))[i] = tokens_of(rank, k);
      (&at<int>(a_.layout.node_tokens))[i] =
          per_node == h_.num_ranks ? group()[k] : sum_tokens(first, first + per_node, k);
    }
    const int first = map_rank() / per_node * per_node;
    LPLB_ROLLED
    for (int k = worker; k < h_.num_replicated; k += num_workers) {
      before_rank()[k] = sum_tokens(first, map_rank(), k);
      before_node()[k] = sum_tokens(0, first, k);
    }
    LPLB_ROLLED
    for (int i = worker; i < kPlanWarps * h_.num_replicated; i += num_workers) {
      numbers()[i] += before_block()[i % h_.num_replicated];
    }
  }

  /// Where the solver's numbers are: made anew where they are needed, not kept.
  __device__ __forceinline__ solvers::BlockState state() const {
    return solvers::BlockState::carve(m_ + a_.layout.state, solver_header());
  }
  __device__ const solvers::DeviceTablesHeader& solver_header() const {
    return *reinterpret_cast<const solvers::DeviceTablesHeader*>(image() + h_.solver);
  }

  __device__ int quota_of(int i, const int* take) const {
    const PlanReplica replica = list<PlanReplica>(h_.replicas)[i];
    if (replica.count == 0) return 0;
    const int tokens =
        replica.place != solvers::kNoPlace ? take[replica.place] : group()[replica.column];
    if (replica.count == 1) return tokens;
    const int each = tokens / replica.count;
    return each + (replica.index < tokens - each * replica.count ? 1 : 0);
  }

  /// Rare: not among the code that every batch fetches.
  __device__ __noinline__ static void divide_evenly(const int* physical, int count,
                                                    const char* alive, int slots_per_rank,
                                                    int tokens, int turn, PlanSegment* to) {
    map::divide_evenly(physical, count, alive, slots_per_rank, tokens, turn, to);
  }

  template <solvers::Form kForm>
  __device__ solvers::BlockOutcome run_form() {
    const solvers::BlockTables tables(image() + h_.solver, solver_header());
    return solvers::solve_in_block<kForm>(tables, state(), thread(), h_.solver_threads,
                                          a_.max_steps);
  }

  template <bool kCut>
  __device__ solvers::BlockOutcome run_solver() {
    using solvers::Form;
    if constexpr (kCut) {
      return run_form<Form::kCut>();
    } else {
      switch (static_cast<Form>(h_.solver_form)) {
        case Form::kFlow32:
          return run_form<Form::kFlow32>();
        case Form::kFlow128:
          return run_form<Form::kFlow128>();
        default:
          return run_form<Form::kFlowBlock>();
      }
    }
  }
};

}  // namespace lplb
