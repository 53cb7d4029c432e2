// SPDX-License-Identifier: MIT
#pragma once

#include "plan/device/shared.cuh"

namespace lplb::plan {

/// Hands the group's counts to the solver, and solves; with costs, makes the split cheaper.
class Solve {
 public:
  __device__ explicit Solve(Shared& shared) : s_(shared) {}

  /// Clears what gather() adds to.
  template <bool kCost>
  __device__ void clear() {
    int* const fixed = s_.state().fixed;
    LPLB_ROLLED
    for (int g = thread(); g < s_.h.num_ranks; g += kThreads) {
      fixed[g] = 0;
      if constexpr (kCost) {
        solvers::CostIntake::clear(s_.time_state(), g);
      }
    }
  }

  /// Sums the totals of the blocks into own(), adds them to group_counts(), and hands the
  /// sums to the solver as `want` and `fixed`. Notes counts that must be refused. Needs the totals
  /// of all blocks in received(), and add_ranks() followed by a barrier. Ends in a barrier.
  /// kCopies: hands them to `want` [num_logical] instead.
  template <bool kStale, bool kCost = false, bool kCopies = false>
  __device__ void gather(int num_blocks, [[maybe_unused]] int* want = nullptr) {
    const solvers::BlockState solver = kCopies ? solvers::BlockState{} : s_.state();
    LPLB_ROLLED
    for (int c = thread(); c < s_.h.num_columns; c += kThreads) {
      // Sum the column over the blocks; with the other ranks', it is the group's.
      const int target = s_.list<int>(s_.h.targets)[c];
      int own_sum = 0;
#pragma unroll
      for (int block = 0; block < kMaxBlocks; ++block) {
        own_sum += block < num_blocks ? s_.received(block)[c] : 0;
      }
      s_.own()[c] = own_sum;
      const unsigned mine = kStale ? 0u : static_cast<unsigned>(own_sum);
      const int sum = static_cast<int>(static_cast<unsigned>(s_.group_counts()[c]) + mine);
      s_.group_counts()[c] = sum;
      if (static_cast<unsigned>(sum) > static_cast<unsigned>(s_.h.safe_count)) s_.note_odd_count();
      // Give the sum to the solver.
      const int index = target & kTargetMask;
      if constexpr (kCost) take_cost(target & ~kTargetMask, index, sum);
      if constexpr (kCopies) {
        want[index] = sum;
        continue;
      }
      switch (target & ~kTargetMask) {
        case kTargetWant:
          solver.want[index] = sum;
          break;
        // NOTE: unsigned, because the sum may overflow. Such a batch is refused.
        case kTargetFixed:
          atomicAdd(reinterpret_cast<unsigned*>(&solver.fixed[index]), static_cast<unsigned>(sum));
          break;
        default:
          if (sum != 0) atomicOr(&s_.scalars().misplaced, 1);
          break;
      }
    }
    __syncthreads();
    if (s_.scalars().odd != 0) sum_wide<kStale>();
    if constexpr (kCost) {
      hand_over();
      __syncthreads();
    }
  }

  /// The first threads solve. The others call in_parallel(worker, num_workers). With kCost, all
  /// then make the split cheaper. Ends in a barrier.
  template <bool kCut, bool kCost, class Work>
  __device__ void run(Work in_parallel) {
    if (thread() < s_.h.solver_threads) {
      if (!s_.is_refused()) {
        const solvers::BlockOutcome found = run_solver<kCut>();
        if (thread() == 0) s_.outcome() = found;
      }
    } else {
      in_parallel(thread() - s_.h.solver_threads, kThreads - s_.h.solver_threads);
    }
    __syncthreads();
    if constexpr (kCost) {
      if (!s_.is_refused()) improve();
      __syncthreads();
    }
    // Again, so that no register holds it during the solve.
    s_.h = s_.at<Header>(s_.a.layout.image);
  }

 private:
  /// Sets `negative` and `large` from 64-bit sums, which cannot overflow. Rare: only if `odd` is
  /// set. Ends in a barrier.
  template <bool kStale>
  __device__ __forceinline__ void sum_wide() {
    unsigned long long* const total = &s_.scalars().total;
    LPLB_ROLLED
    for (int c = thread(); c < s_.h.num_columns; c += kThreads) {
      long long sum = kStale ? 0 : s_.own()[c];
      LPLB_ROLLED
      for (int row = 0; row < s_.h.num_rows && s_.a.all_counts != nullptr; ++row) {
        if (!kStale && row == s_.a.row) continue;
        const int tokens = s_.row_count(row, c);
        if (tokens < 0) atomicOr(&s_.scalars().negative, 1);
        sum += max(tokens, 0);
      }
      if (sum > INT32_MAX) atomicOr(&s_.scalars().large, 1);
      atomicAdd(total, static_cast<unsigned long long>(sum));
    }
    __syncthreads();
    if (thread() == 0 && *total > INT32_MAX) s_.scalars().large = 1;
    __syncthreads();
  }

  /// Hands the sum of a column to what costs need.
  __device__ void take_cost(int target, int index, int tokens) {
    const solvers::BlockState solver = s_.state();
    const solvers::BlockTimeState time = s_.time_state();
    const solvers::CostIntake intake(s_.image() + s_.h.solver, s_.solver_header(), solver, time);
    if (intake.passes_step(tokens)) atomicOr(&s_.scalars().passes_step, 1);
    if (target == kTargetWant) {
      intake.add_replicated(index, tokens);
    } else if (target == kTargetFixed) {
      intake.add_fixed(index, tokens);
    }
  }

  __device__ void hand_over() {
    const solvers::BlockState solver = s_.state();
    const solvers::BlockTimeState time = s_.time_state();
    const solvers::CostIntake intake(s_.image() + s_.h.solver, s_.solver_header(), solver, time);
    intake.hand_over(s_.scalars().passes_step == 0, thread(), kThreads);
  }

  /// The solver's split becomes the one of the least cost.
  __device__ void improve() {
    static_assert(kThreads == solvers::kTimeThreads);
    const solvers::BlockState solver = s_.state();
    const solvers::BlockTimeState time = s_.time_state();
    solvers::BlockFastTime fast(s_.image() + s_.h.solver, s_.solver_header(), solver, time,
                                thread());
    fast.run(s_.scalars().passes_step == 0, &s_.outcome(), &s_.time_outcome());
  }

  template <solvers::Form kForm>
  __device__ solvers::BlockOutcome run_form() {
    const solvers::BlockTables tables(s_.image() + s_.h.solver, s_.solver_header());
    return solvers::solve_in_block<kForm>(tables, s_.state(), thread(), s_.h.solver_threads,
                                          s_.a.max_steps);
  }

  template <bool kCut>
  __device__ solvers::BlockOutcome run_solver() {
    using solvers::Form;
    if constexpr (kCut) {
      return run_form<Form::kCut>();
    } else {
      switch (static_cast<Form>(s_.h.solver_form)) {
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

  Shared& s_;
};

}  // namespace lplb::plan
