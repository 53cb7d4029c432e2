// SPDX-License-Identifier: MIT
#pragma once

#include "map/sums.h"
#include "plan/device/rows.cuh"

namespace lplb::plan {

/// A block's part of a batch, as steps that the kernels put together. All threads of the block call
/// each step. A step says what it needs, and whether it ends in a barrier of the block.
class Block : public Rows {
 public:
  using Rows::Rows;

  /// Starts the copies that do not depend on the image: its first bytes, and the entries if
  /// `with_entries`. Clears the counters.
  __device__ void begin(bool with_entries) {
    copy_image(0, min(kFirstBytes, a_.layout.image_bytes));
    device::close_copies();
    if (with_entries) stage(0);
    device::close_copies();
    read_valid();
    auto* const counters = &at<uint4>(a_.layout.counters);
    LPLB_ROLLED
    for (int i = thread(); i < a_.layout.counters_bytes / 16; i += kThreads) {
      counters[i] = uint4{0, 0, 0, 0};
    }
    if (thread() == 0) {
      scalars() = {};
      outcome() = {};
    }
  }

  /// Waits for the first bytes of the image; the header can be read from here on. Starts to copy
  /// the rest of the image for the solver and, if `with_rows`, the counts of all ranks. Clears
  /// `fixed`.
  template <bool kCost = false>
  __device__ void open_image(bool with_rows) {
    device::wait_for_older_copies();
    __syncthreads();
    h_ = at<Header>(a_.layout.image);
    copy_image(kFirstBytes, h_.bytes);
    // The steps before the solver read the image up to the solver's header. If that is longer than
    // the first bytes, wait for the rest.
    if (h_.solver + static_cast<int>(sizeof(solvers::DeviceTablesHeader)) > kFirstBytes) {
      device::wait_for_copies();
      __syncthreads();
    }
    if (with_rows) copy_rows();
    device::close_copies();
    int* const fixed = state().fixed;
    LPLB_ROLLED
    for (int g = thread(); g < h_.num_ranks; g += kThreads) {
      fixed[g] = 0;
      if constexpr (kCost) {
        time_state().fixed[g] = 0;
        time_state().active[g] = 0;
      }
    }
  }

  /// Sums the totals of the blocks into own(), adds them to group_counts(), and hands the sums to
  /// the solver as `want` and `fixed`. Notes counts that must be refused. Needs the totals of all
  /// blocks in received(), and add_ranks() followed by a barrier. Ends in a barrier.
  template <bool kStale, bool kCost = false>
  __device__ void gather(int num_blocks) {
    const solvers::BlockState solver = state();
    LPLB_ROLLED
    for (int c = thread(); c < h_.num_columns; c += kThreads) {
      // Sum the column over the blocks; with the other ranks', it is the group's.
      const int target = list<int>(h_.targets)[c];
      int own_sum = 0;
#pragma unroll
      for (int block = 0; block < kMaxBlocks; ++block) {
        own_sum += block < num_blocks ? received(block)[c] : 0;
      }
      own()[c] = own_sum;
      const unsigned mine = kStale ? 0u : static_cast<unsigned>(own_sum);
      const int sum = static_cast<int>(static_cast<unsigned>(group_counts()[c]) + mine);
      group_counts()[c] = sum;
      if (static_cast<unsigned>(sum) > static_cast<unsigned>(h_.safe_count)) note_odd_count();
      // Give the sum to the solver.
      const int index = target & kTargetMask;
      if constexpr (kCost) take_cost(target & ~kTargetMask, index, sum);
      switch (target & ~kTargetMask) {
        case kTargetWant:
          solver.want[index] = sum;
          break;
        // NOTE: unsigned, because the sum may overflow. Such a batch is refused.
        case kTargetFixed:
          atomicAdd(reinterpret_cast<unsigned*>(&solver.fixed[index]), static_cast<unsigned>(sum));
          break;
        default:
          if (sum != 0) atomicOr(&scalars().misplaced, 1);
          break;
      }
    }
    __syncthreads();
    if (scalars().odd != 0) sum_wide<kStale>();
    if constexpr (kCost) {
      hand_over_units();
      __syncthreads();
    }
  }

  /// The first threads solve; with kCost, by what tokens cost. The others make the sums that the
  /// segments and the map need; with kExchange, one of them joins the verdicts of the blocks. Ends
  /// in a barrier.
  template <bool kCut, bool kExchange, bool kStale, bool kCost = false>
  __device__ void solve(int num_blocks) {
    if (thread() < h_.solver_threads) {
      if (!is_refused()) {
        solvers::BlockOutcome found = run_solver<kCut>();
        if constexpr (kCost) improve(&found);
        if (thread() == 0) outcome() = found;
      }
    } else {
      const int worker = thread() - h_.solver_threads;
      const int num_workers = kThreads - h_.solver_threads;
      if constexpr (!kStale) sum_ranks(worker, num_workers);
      number_warps(worker, num_workers);
      if (kExchange && num_blocks > 1 && worker == num_workers - 1) join_verdicts(num_blocks);
    }
    __syncthreads();
    h_ = at<Header>(a_.layout.image);  // again, so that no register holds it during the solve
  }

  /// Makes the quotas; then the segments and the head of each replicated expert of which this rank
  /// has tokens. In parallel, the last warp of block 0 calls in_parallel() before it makes segments
  /// of its own, which it has only if more than 480 experts are replicated. Ends in a barrier.
  template <bool kStale, class Work>
  __device__ void make_segments(Work in_parallel) {
    // The quota of each replica, from what the solver gave to its place.
    const bool degraded = is_degraded();
    if (!degraded) {
      const int* const take = state().take;
      LPLB_ROLLED
      for (int i = thread(); i < h_.num_replicas; i += kThreads) quota()[i] = quota_of(i, take);
      __syncthreads();
    }
    if (blockIdx.x == 0 && thread() >= kThreads - device::kWarpSize) in_parallel();
    // The segments of each expert, by the rules of map/rules.h.
    const int turn = kStale ? a_.rank : map_rank();
    const bool is_one_node = h_.ranks_per_node == h_.num_ranks;
    const int first_rank = is_one_node ? 0 : map_rank() / h_.ranks_per_node * h_.ranks_per_node;
    LPLB_ROLLED
    for (int k = thread(); k < h_.num_replicated; k += kThreads) {
      if (own()[k] == 0) continue;
      const int begin = list<std::uint16_t>(h_.replica_begin)[k];
      const int count = list<std::uint16_t>(h_.replica_begin)[k + 1] - begin;
      const int* const physical = list<int>(h_.physical) + begin;
      if (degraded) {
        divide_evenly(physical, count, list<char>(h_.alive), h_.slots_per_rank, own()[k],
                      list<std::uint16_t>(h_.logical)[k] + turn, segments() + begin);
      } else if constexpr (kStale) {
        map::divide_by_split(
            physical, count, [&](int i) { return quota()[begin + i]; }, list<char>(h_.alive),
            h_.slots_per_rank, own()[k], turn, list<std::uint16_t>(h_.logical)[k],
            segments() + begin);
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
      make_head(k, own()[k]);
    }
    __syncthreads();
    // NOTE: this second barrier is for compute-sanitizer's racecheck only. After a loop whose
    // lanes diverge, it takes the first barrier for passed while other threads have yet to arrive
    // (docs/notes/2026-11-plan-kernel.md).
    __syncthreads();
  }

  /// Writes to the status word what happened. One warp calls it, after solve(): report.cuh.
  __device__ void report(int num_blocks);
  /// Keeps what later kernels read (Trace). All threads of one block call it, after
  /// make_segments().
  __device__ void keep_trace();

 private:
  __device__ int* before_rank() const { return &at<int>(a_.layout.before_rank); }
  __device__ int* before_node() const { return &at<int>(a_.layout.before_node); }
  __device__ int* quota() const { return &at<int>(a_.layout.quota); }
  /// Sets `negative` and `large` from 64-bit sums, which cannot overflow. Rare: only if `odd` is
  /// set. Ends in a barrier.
  template <bool kStale>
  __device__ __forceinline__ void sum_wide() {
    unsigned long long* const total = &scalars().total;
    LPLB_ROLLED
    for (int c = thread(); c < h_.num_columns; c += kThreads) {
      long long sum = kStale ? 0 : own()[c];
      LPLB_ROLLED
      for (int row = 0; row < h_.num_rows && a_.all_counts != nullptr; ++row) {
        if (!kStale && row == a_.row) continue;
        const int tokens = row_count(row, c);
        if (tokens < 0) atomicOr(&scalars().negative, 1);
        sum += max(tokens, 0);
      }
      if (sum > INT32_MAX) atomicOr(&scalars().large, 1);
      atomicAdd(total, static_cast<unsigned long long>(sum));
    }
    __syncthreads();
    if (thread() == 0 && *total > INT32_MAX) scalars().large = 1;
    __syncthreads();
  }

  /// The rank whose tokens are mapped. If every rank has the same tokens, all ranks map them as
  /// rank 0 would if it were the only one with tokens.
  __device__ int map_rank() const { return a_.all_counts != nullptr ? a_.rank : 0; }
  /// The tokens of column k on the ranks [begin, end).
  __device__ int sum_tokens(int begin, int end, int k) const {
    int sum = begin <= map_rank() && map_rank() < end ? own()[k] : 0;
    if (a_.all_counts == nullptr) return sum;
    const auto* const row_begin = list<std::uint16_t>(h_.row_begin);
    LPLB_ROLLED
    for (int row = row_begin[begin]; row < row_begin[end]; ++row) {
      if (row != a_.row) sum += row_count(row, k);
    }
    return sum;
  }

  /// Makes the sums over ranks that the segments need, in parallel with the solver. Called by
  /// thread `worker` of `num_workers`.
  __device__ void sum_ranks(int worker, int num_workers) {
    const int per_node = h_.ranks_per_node;
    LPLB_ROLLED
    for (int i = worker; i < h_.num_replicas; i += num_workers) {
      const int k = list<Replica>(h_.replicas)[i].column;
      const int rank = list<std::uint16_t>(h_.replica_rank)[i];
      const int first = rank / per_node * per_node;
      (&at<int>(a_.layout.rank_tokens))[i] = sum_tokens(rank, rank + 1, k);
      (&at<int>(a_.layout.node_tokens))[i] =
          per_node == h_.num_ranks ? group_counts()[k] : sum_tokens(first, first + per_node, k);
    }
    const int first = map_rank() / per_node * per_node;
    LPLB_ROLLED
    for (int k = worker; k < h_.num_replicated; k += num_workers) {
      before_rank()[k] = sum_tokens(first, map_rank(), k);
      before_node()[k] = sum_tokens(0, first, k);
    }
  }

  __device__ __forceinline__ solvers::BlockTimeState time_state() const {
    return solvers::BlockTimeState::carve(m_ + a_.layout.time, solver_header());
  }

  /// Adds up what the fixed experts cost, from the sum of a column.
  __device__ void take_cost(int target, int index, int tokens) {
    const solvers::DeviceCostTables costs(image() + h_.solver, solver_header());
    const solvers::BlockTimeState time = time_state();
    if (tokens > costs.one_step()) atomicOr(&scalars().passes_step, 1);
    if (target == kTargetWant) {
      time.want[index] = tokens;
    } else if (target == kTargetFixed && tokens > 0) {
      atomicAdd(reinterpret_cast<unsigned long long*>(&time.fixed[index]),
                static_cast<unsigned long long>(costs.of(costs.curve(index), tokens)));
      atomicAdd(&time.active[index], 1);
    }
  }

  /// Keeps the tokens of fixed experts. If no expert passes the first step of a uniform model,
  /// gives the solver 1 for each active expert in place of its tokens.
  __device__ void hand_over_units() {
    const solvers::BlockState solver = state();
    const solvers::BlockTimeState time = time_state();
    const bool is_units = scalars().passes_step == 0;
    LPLB_ROLLED
    for (int g = thread(); g < h_.num_ranks; g += kThreads) {
      time.fixed_tokens[g] = solver.fixed[g];
      if (is_units) solver.fixed[g] = time.active[g];
    }
    LPLB_ROLLED
    for (int k = thread(); k < solver_header().num_replicated && is_units; k += kThreads) {
      solver.want[k] = time.want[k] > 0 ? 1 : 0;
    }
  }

  /// The solver's split becomes the one of the least cost. The threads that solved call it.
  __device__ void improve(solvers::BlockOutcome* found) {
    if (h_.solver_threads > device::kWarpSize) {
      device::sync_team(h_.solver_threads);
    } else {
      __syncwarp();
    }
    if (thread() >= device::kWarpSize) return;
    const solvers::BlockState solver = state();
    const solvers::BlockTimeState time = time_state();
    solvers::BlockFastTime fast(image() + h_.solver, solver_header(), solver, time, thread());
    const solvers::TimeOutcome out = fast.run(scalars().passes_step == 0, found);
    if (thread() == 0) time_outcome() = out;
  }

  /// Where the arrays of the solver are. Computed at each use rather than kept in registers.
  __device__ __forceinline__ solvers::BlockState state() const {
    return solvers::BlockState::carve(m_ + a_.layout.state, solver_header());
  }
  __device__ const solvers::DeviceTablesHeader& solver_header() const {
    return *reinterpret_cast<const solvers::DeviceTablesHeader*>(image() + h_.solver);
  }

  __device__ int quota_of(int i, const int* take) const {
    const Replica replica = list<Replica>(h_.replicas)[i];
    if (replica.count == 0) return 0;
    const int tokens =
        replica.place != solvers::kNoPlace ? take[replica.place] : group_counts()[replica.column];
    if (replica.count == 1) return tokens;
    const int each = tokens / replica.count;
    return each + (replica.index < tokens - each * replica.count ? 1 : 0);
  }

  /// Rare, so it is kept out of the code that every batch fetches.
  __device__ __noinline__ static void divide_evenly(const int* physical, int count,
                                                    const char* alive, int slots_per_rank,
                                                    int tokens, int turn, Segment* to) {
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
        case Form::kFlow96:
          return run_form<Form::kFlow96>();
        case Form::kFlow128:
          return run_form<Form::kFlow128>();
        default:
          return run_form<Form::kFlowBlock>();
      }
    }
  }
};

}  // namespace lplb::plan
