// SPDX-License-Identifier: MIT
#pragma once

// The constants of the interior-point method, for both of its twins.
namespace lplb::solvers::ipm {

/// How far a step may go towards the boundary: this part of the way.
inline constexpr double kFraction = 0.999;
/// T starts this far above the largest load: of the even shares, or of the shares of a warm start.
inline constexpr double kColdSlack = 0.05;
inline constexpr double kWarmSlack = 0.005;
/// A warm start begins at the point where the gap of the last solve first was at most kKeep of T.
/// Later points are too close to the boundary. Shares and prices are pulled to the middle by kPull.
inline constexpr double kKeep = 0.03;
inline constexpr double kPull = 0.1;
/// The diagonal of the matrix is raised by this part of itself; in float by more.
inline constexpr double kRidge = 1e-13;
inline constexpr double kFloatRidge = 2e-6;

}  // namespace lplb::solvers::ipm
