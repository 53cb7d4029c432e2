// SPDX-License-Identifier: MIT
#pragma once

// What the solver fast-time and its twin on the device share.
namespace lplb::solvers {

/// The most sweeps after the split by tokens.
inline constexpr int kTimeSweeps = 2;

/// The most replicated experts of which the first sweep levels all: one for each warp of a block.
inline constexpr int kTimeFew = 16;

/// The numbers of steps that are tried for an expert with two places: one for each lane of a warp.
inline constexpr int kTimeLanes = 32;

/// The most times that a sweep divides the tokens of an expert with more places.
inline constexpr int kTimeDivisions = 4;

/// The numbers of steps that are tried for each pair of its places, 2^bits: the lanes of a warp are
/// shared by 2, 4 or 8 pairs at a time.
constexpr int time_try_bits(int num_places) {
  return num_places <= 3 ? 4 : num_places <= 5 ? 3 : 2;
}

/// What the place of a rank may give another one to help it: its last one, two or three steps, or
/// all.
inline constexpr int kTimeHelps = 4;

/// There are no sweeps if the largest cost is at most 1 / kNearPart above its bound, and the
/// second one passes by the ranks that are.
inline constexpr int kNearPart = 64;

}  // namespace lplb::solvers
