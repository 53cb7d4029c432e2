// SPDX-License-Identifier: MIT
#pragma once

// What the solver fast-time and its twin on the device share.
namespace lplb::solvers {

/// The most moves after the cheaper of the two splits. On most recorded loads there are 0 to 4.
inline constexpr int kFastMoves = 8;

/// The search ends when the largest cost is at most 1 / kNearPart above its bound.
inline constexpr int kNearPart = 64;

}  // namespace lplb::solvers
