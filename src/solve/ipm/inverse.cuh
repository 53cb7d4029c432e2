// SPDX-License-Identifier: MIT
#pragma once

#include <cmath>

#include "core/host_device.h"
#include "solve/ipm/reduction.cuh"

namespace lplb::solvers {

/// 1 / x for a positive normal x, to the last bit or the one before. A division takes three times
/// as long, because it also handles what is not here.
__device__ inline double inverse_of(double x) {
#ifdef __CUDA_ARCH__
  double y;
  asm("rcp.approx.ftz.f64 %0, %1;" : "=d"(y) : "d"(x));
  // Newton's iteration doubles the 20 bits that are right.
  y = fma(y, fma(-x, y, 1.0), y);
  return fma(y, fma(-x, y, 1.0), y);
#else
  return 1 / x;
#endif
}

/// A symmetric positive definite matrix in the registers of a block, and its inverse. kLanes
/// neighbouring threads have a row; thread number l of them has the columns 2 l, 2 l + 1, 2 l + 2
/// kLanes, ... A product with the inverse is then a few multiplications and shuffles. That is why
/// it is inverted and not factored: to solve with factors, each unknown waits for the one before
/// it.
template <int kRows, int kLanes>
class BlockMatrix {
 public:
  static constexpr int kThreads = kRows * kLanes;
  static constexpr int kEntries = kRows / kLanes;

  __device__ static int row() { return static_cast<int>(threadIdx.x) / kLanes; }
  __device__ static int lane() { return static_cast<int>(threadIdx.x) % kLanes; }

  /// The column of the thread's entry number j. Even and odd ones are neighbours, which are read
  /// together.
  __device__ static int column(int j) { return (j / 2 * kLanes + lane()) * 2 + j % 2; }
  /// The number of the entry in a column that is this thread's; -1: it is another's.
  __device__ static int entry_of(int column) {
    return column / 2 % kLanes == lane() ? column / 2 / kLanes * 2 + column % 2 : -1;
  }
  __device__ double& entry(int j) { return a_[j]; }

  /// Replaces the first `size` rows and columns by their inverse. The others must be 0. Returns
  /// false if a pivot is not positive. `pivot_rows`: [2 * kRows] doubles in shared memory.
  ///
  /// Gauss and Jordan, in place: step k makes row and column k those of the inverse of the first k
  /// + 1 rows. The matrix stays symmetric, but for the sign between a row that was a pivot and one
  /// that was not; so each step needs the pivot's row only. One barrier a step. NOTE: the loop over
  /// entries is unrolled so that each step knows which of the thread's entries may be in column k.
  __device__ bool invert(int size, double* pivot_rows) {
    publish(0, pivot_rows);
    sync_block<kThreads>();
#pragma unroll
    for (int j = 0; j < kEntries; j += 2) {
      LPLB_ROLLED
      for (int in_lane = 0; in_lane < kLanes; ++in_lane) {
        const int k = (j / 2 * kLanes + in_lane) * 2;
        if (k >= size) return true;
        if (!eliminate(k, j, in_lane, pivot_rows)) return false;
        if (k + 1 >= size) return true;
        if (!eliminate(k + 1, j + 1, in_lane, pivot_rows)) return false;
      }
    }
    return true;
  }

  /// The thread's row times each of `vectors`, which are in shared memory. All threads of a row get
  /// the result.
  template <int kCount>
  __device__ void multiply(const double* const (&vectors)[kCount], double (&result)[kCount]) const {
#pragma unroll
    for (int v = 0; v < kCount; ++v) {
      double sum = 0;
      for_entries(vectors[v], [&](int j, double value) { sum = fma(a_[j], value, sum); });
      result[v] = add_lanes(sum);
    }
  }

  /// The sum over the threads of a row.
  __device__ static double add_lanes(double value) {
#pragma unroll
    for (int bits = kLanes / 2; bits > 0; bits /= 2) value += __shfl_xor_sync(~0u, value, bits);
    return value;
  }

 private:
  static_assert(kEntries % 2 == 0);

  /// Step k. Column k is entry number `at` of the threads with lane `in_lane`.
  __device__ __forceinline__ bool eliminate(int k, int at, int in_lane, double* pivot_rows) {
    const double* const pivot_row = pivot_rows + (k & 1) * kRows;
    const double pivot = pivot_row[k];
    if (!(pivot > 0)) return false;
    const double inverse = inverse_of(pivot);
    const double in_column = row() < k ? -pivot_row[row()] : pivot_row[row()];
    const bool is_column = lane() == in_lane;
    if constexpr (kThreads == device::kWarpSize) {
      // Without a branch, because every warp has the pivot's row.
      const double factor = row() == k ? -inverse : in_column * inverse;
      for_entries(pivot_row, [&](int j, double in_row) {
        const bool is_new = row() == k || (j == at && is_column);
        a_[j] = fma(-factor, j == at && is_column ? 1 : in_row, is_new ? 0 : a_[j]);
      });
    } else if (row() == k) {
      for_entries(pivot_row, [&](int j, double in_row) {
        a_[j] = inverse * (j == at && is_column ? 1 : in_row);
      });
    } else {
      const double factor = in_column * inverse;
      for_entries(pivot_row, [&](int j, double in_row) {
        if (j != at) {
          a_[j] = fma(-factor, in_row, a_[j]);
        } else {
          a_[j] = is_column ? -factor : fma(-factor, in_row, a_[j]);
        }
      });
    }
    publish(k + 1, pivot_rows + (~k & 1) * kRows);
    sync_block<kThreads>();
    return true;
  }

  /// Calls body(j, values[column(j)]) for the thread's entries. `values` are aligned to 16 bytes.
  template <class Body>
  __device__ static void for_entries(const double* values, Body body) {
#pragma unroll
    for (int j = 0; j < kEntries; j += 2) {
      const double2 two = *reinterpret_cast<const double2*>(values + column(j));
      body(j, two.x);
      body(j + 1, two.y);
    }
  }

  __device__ void publish(int k, double* pivot_row) const {
    if (row() != k) return;
#pragma unroll
    for (int j = 0; j < kEntries; ++j) pivot_row[column(j)] = a_[j];
  }

  double a_[kEntries];
};

}  // namespace lplb::solvers
