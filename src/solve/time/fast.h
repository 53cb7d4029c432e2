// SPDX-License-Identifier: MIT
#pragma once

// What the solver fast-time and its twin on the device share.
namespace lplb::solvers {

/// The most moves after the best of the four splits. On recorded loads there are 0 to 4.
inline constexpr int kFastMoves = 32;

}  // namespace lplb::solvers
