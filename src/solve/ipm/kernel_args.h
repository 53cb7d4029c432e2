// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include "core/host_device.h"

// What the host and the kernel of the interior-point solver share.
namespace lplb::solvers {

/// The sizes that are compiled: a block has `lanes` threads for each row, and takes up to `rows`
/// live ranks.
struct IpmSize {
  int rows;
  int lanes;
};
inline constexpr IpmSize kIpmSizes[] = {{8, 4}, {16, 4}, {32, 4}, {64, 4}, {144, 4}};
inline constexpr int kMaxIpmVariables = 608;
inline constexpr int kIpmReduced = 5;  // the most sums that a block makes at once
inline constexpr int kMaxIpmExperts = kMaxIpmVariables / 2;

/// An entry of the table row_place: a variable, the first variable of its expert, and the number of
/// the expert's variables less one.
inline constexpr int kIpmPlaceBits = 10;
inline constexpr int kIpmPlaceMask = (1 << kIpmPlaceBits) - 1;
static_assert(kMaxIpmVariables <= kIpmPlaceMask + 1);

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
  std::int32_t num_colours;

  // What follows from the placement.
  const double* speed;         // [num_rows], mean 1
  const std::int32_t* tables;  // as IpmSharedLayout has them

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

/// Where everything is in the shared memory of a block: doubles, and from `integers` on the tables,
/// whose offsets are those of IpmKernelArgs::tables too. This is the only copy of these offsets.
struct IpmSharedLayout {
  int speed, right, z, dz;                  // [rows]
  int pivot_rows;                           // [2, rows]
  int entries;                              // [rows / lanes, threads]; later dx and dr
  int dx, dr;                               // [variables]
  int x, r, d, part, q;                     // [variables]
  int inverse_x, inverse_r;                 // [variables]
  int want, mean, dz_mean, inverse_weight;  // [experts]
  int scratch;                              // for reductions: [2, kIpmReduced, warps]
  int integers;

  int row;           // [variables]
  int owner;         // [variables]: the expert
  int expert_begin;  // [experts + 1], into the variables
  int row_begin;     // [num_rows + 1], into row_place
  int row_place;     // [variables]: those of each row, ascending, with their experts
  int colour_begin;  // [num_colours + 1], into the experts: no two of a colour share a row
  int num_copied;    // integers
  int bytes;

  LPLB_HOST_DEVICE constexpr IpmSharedLayout(int rows, int lanes, const IpmKernelArgs& args)
      : speed(0),
        right(speed + rows),
        z(right + rows),
        dz(z + rows),
        pivot_rows(dz + rows),
        entries(pivot_rows + 2 * rows),
        dx(entries),
        dr(dx + args.num_variables),
        x(entries + larger(rows * rows, 2 * args.num_variables)),
        r(x + args.num_variables),
        d(r + args.num_variables),
        part(d + args.num_variables),
        q(part + args.num_variables),
        inverse_x(q + args.num_variables),
        inverse_r(inverse_x + args.num_variables),
        want(inverse_r + args.num_variables),
        mean(want + args.num_experts),
        dz_mean(mean + args.num_experts),
        inverse_weight(dz_mean + args.num_experts),
        scratch(inverse_weight + args.num_experts),
        integers(scratch + 2 * kIpmReduced * (rows * lanes / 32)),
        row(0),
        owner(args.num_variables),
        expert_begin(2 * args.num_variables),
        row_begin(expert_begin + args.num_experts + 1),
        row_place(row_begin + args.num_rows + 1),
        colour_begin(row_place + args.num_variables),
        num_copied(colour_begin + args.num_colours + 1),
        bytes(8 * integers + 4 * num_copied) {}

 private:
  LPLB_HOST_DEVICE static constexpr int larger(int a, int b) { return a > b ? a : b; }
};
inline constexpr IpmKernelArgs kLargestIpm = [] {
  IpmKernelArgs args{};
  args.num_rows = 144;
  args.num_variables = kMaxIpmVariables;
  args.num_experts = args.num_colours = kMaxIpmExperts;
  return args;
}();
static_assert(IpmSharedLayout(144, 4, kLargestIpm).bytes <= 226 * 1024,
              "the largest size fits a block of compute capability 9.0, which has 227 KiB");

}  // namespace lplb::solvers
