// SPDX-License-Identifier: MIT
#pragma once

#include "core/ptx.cuh"
#include "exchange/peer/round.cuh"
#include "map/rules.h"
#include "plan/device/args.h"
#include "solve/device/cost_intake.cuh"
#include "solve/device/fast_time.cuh"
#include "solve/device/solve_kernel.cuh"

namespace lplb::plan {

// Who a thread is.
__device__ inline int thread() { return static_cast<int>(threadIdx.x); }
__device__ inline int warp() { return static_cast<int>(threadIdx.x / device::kWarpSize); }
__device__ inline int block_id() { return static_cast<int>(blockIdx.x); }

/// What the parts of a plan share: a launch's arguments, the header of the image, and a block's
/// shared memory, whose arrays have names here. Each part is handed the same one.
struct Shared {
  const Args& a;
  unsigned char* const m;
  int received_at;  // offset of the blocks' totals
  Header h;         // valid after Plan::open_image()

  __device__ Shared(const Args& args, void* memory)
      : a(args), m(static_cast<unsigned char*>(memory)), received_at(args.layout.received) {}

  // Arrays in shared memory, at the offsets of Layout and Header.

  template <class T>
  __device__ T& at(int offset) const {
    return *reinterpret_cast<T*>(m + offset);
  }
  __device__ const unsigned char* image() const { return m + a.layout.image; }
  template <class T>
  __device__ const T* list(int offset) const {
    return reinterpret_cast<const T*>(image() + offset);
  }
  __device__ int* received(int block) const {
    return &at<int>(received_at) + block * (a.layout.max_columns + 1);
  }
  __device__ int* numbers() const { return &at<int>(a.layout.numbers); }
  __device__ int* totals() const { return &at<int>(a.layout.totals); }
  __device__ int* group_counts() const { return &at<int>(a.layout.group_counts); }
  __device__ int* own() const { return &at<int>(a.layout.own); }
  __device__ int* quota() const { return &at<int>(a.layout.quota); }
  __device__ Segment* segments() const { return &at<Segment>(a.layout.segments); }
  __device__ int* heads() const { return &at<int>(a.layout.heads); }
  /// The count in `column` of a row. The rows are in shared memory if they fit there, otherwise in
  /// device memory.
  __device__ int row_count(int row, int column) const {
    const int i = row * h.num_columns + column;
    return a.layout.has_rows != 0 ? at<int>(a.layout.rows + 4 * i) : a.all_counts[i];
  }
  /// Where the arrays of the solver are. Computed at each use rather than kept in registers.
  __device__ __forceinline__ solvers::BlockState state() const {
    return solvers::BlockState::carve(m + a.layout.state, solver_header());
  }
  __device__ __forceinline__ solvers::BlockTimeState time_state() const {
    return solvers::BlockTimeState::carve(m + a.layout.time, solver_header());
  }
  __device__ const solvers::DeviceTablesHeader& solver_header() const {
    return *reinterpret_cast<const solvers::DeviceTablesHeader*>(image() + h.solver);
  }

  // Single values.

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
    int copies;  // with dynamic slots
  };
  static_assert(sizeof(Common) <= kCommonBytes);
  __device__ Common& common() const { return at<Common>(a.layout.common); }
  __device__ Scalars& scalars() const { return common().scalars; }
  __device__ solvers::BlockOutcome& outcome() const { return common().outcome; }
  __device__ solvers::TimeOutcome& time_outcome() const { return common().time_outcome; }

  __device__ void note_odd_count() { atomicOr(&scalars().odd, 1); }

  __device__ bool has_bad_counts() const { return (scalars().negative | scalars().misplaced) != 0; }
  /// Whether the batch cannot be solved, as far as this block knows by itself.
  __device__ bool is_refused() const {
    return (scalars().lost | scalars().large) != 0 || has_bad_counts();
  }
  /// The same after solve(), when all blocks agree.
  __device__ bool is_degraded() const { return scalars().lost_by_one != 0 || is_refused(); }

  /// The rank whose tokens are mapped. If every rank has the same tokens, all ranks map them as
  /// rank 0 would if it were the only one with tokens.
  __device__ int map_rank() const { return a.all_counts != nullptr ? a.rank : 0; }
};

}  // namespace lplb::plan
