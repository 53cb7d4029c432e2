// SPDX-License-Identifier: MIT
#pragma once

#include "plan/device/entries.cuh"
#include "plan/device/rows.cuh"
#include "plan/device/segments.cuh"
#include "plan/device/solve.cuh"

namespace lplb::plan {

/// A block's part of a batch: what its parts share, the parts, and the copies that all of them
/// need. Kernels put the steps of the parts together. All threads of the block call each step; a
/// step says what it needs, and whether it ends in a barrier of the block.
///
/// NOTE: `shared` is an object of its own, and not a member: the compiler keeps an object in
/// registers only if it does not hold its own address.
struct Plan {
  Shared& shared;
  Entries entries;
  Rows rows;
  Solve solve;
  Segments segments;

  __device__ explicit Plan(Shared& of_block)
      : shared(of_block), entries(of_block), rows(of_block), solve(of_block), segments(of_block) {}
  Plan(const Plan&) = delete;
  Plan& operator=(const Plan&) = delete;

  /// Starts the copies that do not depend on the image: its first bytes, and the entries if
  /// `with_entries`. Clears the counters.
  __device__ void begin(bool with_entries) {
    copy_image(0, min(kFirstBytes, shared.a.layout.image_bytes));
    device::close_copies();
    if (with_entries) entries.stage(0);
    device::close_copies();
    entries.read_valid();
    auto* const counters = &shared.at<uint4>(shared.a.layout.counters);
    LPLB_ROLLED
    for (int i = thread(); i < shared.a.layout.counters_bytes / 16; i += kThreads) {
      counters[i] = uint4{0, 0, 0, 0};
    }
    if (thread() == 0) {
      shared.scalars() = {};
      shared.outcome() = {};
    }
  }

  /// Waits for the first bytes of the image; the header can be read from here on. Starts to copy
  /// the rest of the image for the solver and, if `with_rows`, the counts of all ranks. Clears
  /// `fixed` if `kSolves`.
  template <bool kCost = false, bool kSolves = true>
  __device__ void open_image(bool with_rows) {
    device::wait_for_older_copies();
    __syncthreads();
    shared.h = shared.at<Header>(shared.a.layout.image);
    copy_image(kFirstBytes, shared.h.bytes);
    // The steps before the solver read the image up to the solver's header. If that is longer than
    // the first bytes, wait for the rest.
    if (shared.h.solver + static_cast<int>(sizeof(solvers::DeviceTablesHeader)) > kFirstBytes) {
      device::wait_for_copies();
      __syncthreads();
    }
    if (with_rows) rows.copy();
    device::close_copies();
    if constexpr (kSolves) solve.template clear<kCost>();
  }

 private:
  static constexpr int kFirstBytes =
      2 * 16 * kThreads;  // what begin() copies of the image, header included

  __device__ void copy_image(int first, int end) const {
    LPLB_ROLLED
    for (int i = first + 16 * thread(); i < end; i += 16 * kThreads) {
      device::copy_16(shared.m + shared.a.layout.image + i, shared.a.image + i);
    }
  }
};

}  // namespace lplb::plan
