// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include "core/host_device.h"

// What the host and the kernel of the interior-point solver share. Plain structs, and no headers of
// the CUDA runtime: any compiler compiles the host side, and the kernel becomes a cubin of its own.
namespace lplb::solvers {

/// The sizes that are compiled. The matrix is padded to the next one; `threads` is the size of the
/// block. NOTE: cmake/LplbMathDx.cmake has the same table, and cubins.h and cubins.cc a line for
/// each size.
struct IpmSize {
  int rows;
  int threads;
};
inline constexpr IpmSize kIpmSizes[] = {{8, 32}, {16, 64}, {32, 128}, {64, 128}, {144, 512}};
inline constexpr int kMaxIpmVariables = 608;
inline constexpr int kMaxIpmExperts = kMaxIpmVariables / 2;

/// Where everything is in the shared memory of a block, in doubles; the integers follow. This is
/// the only copy of these offsets.
struct IpmSharedLayout {
  int matrix, right, base;             // [rows, rows], [2, rows], [rows]
  int s, z, ds, dz, speed, fixed;      // [rows]
  int x, r, dx, dr, d, part, q, mean;  // [variables]
  int want;                            // [experts]
  int scratch;                         // for reductions: two of [3 x warps]
  int row, begin, end, owner;          // [variables]: int32, from `integers` on
  int status;                          // of the factorisation
  int integers;
  int bytes;

  LPLB_HOST_DEVICE constexpr IpmSharedLayout(int rows, int threads, int variables, int experts)
      : matrix(0),
        right(rows * rows),
        base(right + 2 * rows),
        s(base + rows),
        z(s + rows),
        ds(z + rows),
        dz(ds + rows),
        speed(dz + rows),
        fixed(speed + rows),
        x(fixed + rows),
        r(x + variables),
        dx(r + variables),
        dr(dx + variables),
        d(dr + variables),
        part(d + variables),
        q(part + variables),
        mean(q + variables),
        want(mean + variables),
        scratch(want + experts),
        row(0),
        begin(variables),
        end(2 * variables),
        owner(3 * variables),
        status(4 * variables),
        integers(scratch + 6 * (threads / 32)),
        bytes(8 * integers + 16 * variables + 16) {}
};
static_assert(IpmSharedLayout(144, 512, kMaxIpmVariables, kMaxIpmExperts).bytes <= 226 * 1024,
              "the largest size fits a block of compute capability 9.0, which has 227 KiB");

enum class IpmOutcomeStatus : std::int32_t { kConverged, kLimit, kSingular };

/// The outcome of one instance. Levels are in tokens / speed, with speeds scaled to mean 1.
struct IpmOutcome {
  IpmOutcomeStatus status;
  std::int32_t iterations;
  double max_load;
  double lower_bound;
};

/// A launch, with one block for each instance. Pointers are to device memory.
struct IpmKernelArgs {
  std::int32_t num_rows;       // live ranks
  std::int32_t num_variables;  // places
  std::int32_t num_experts;
  std::int32_t num_entries;  // num_rows (num_rows + 1) / 2
  std::int32_t num_colours;

  // What follows from the placement.
  const double* speed;               // [num_rows], mean 1
  const std::int32_t* row;           // [num_variables]
  const std::int32_t* owner;         // [num_variables]: the expert
  const std::int32_t* expert_begin;  // [num_experts + 1], into the variables
  const std::int32_t* row_begin;     // [num_rows + 1], into row_variable
  const std::int32_t* row_variable;  // [num_variables]: the variables of each row, ascending
  const std::int32_t* entry;         // [num_entries]: row << 16 | column, column <= row
  const std::int32_t* entry_begin;   // [num_entries + 1], into pair
  const std::int32_t* pair;          // variable in the row << 16 | variable in the column
  const std::int32_t* colour_begin;  // [num_colours + 1], into the experts: no two share a row

  // What belongs to the instances.
  const std::int64_t* want;   // [instances, num_experts]
  const std::int64_t* fixed;  // [instances, num_rows]
  // [instances, 1 + num_variables + num_rows], or null: no warm start. The first number of an
  // instance is 0 until a solve has filled the rest.
  double* kept;
  std::int64_t* take;   // out: [instances, num_variables], whole tokens
  double* price;        // out: [instances, num_rows]
  IpmOutcome* outcome;  // out: [instances]

  double tolerance;
  std::int32_t max_iterations;
  std::int32_t warm;
};

}  // namespace lplb::solvers
