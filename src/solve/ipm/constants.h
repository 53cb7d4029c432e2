// SPDX-License-Identifier: MIT
#pragma once

namespace lplb::solvers {

/// The constants of the interior-point method, for both of its twins.
struct IpmConstants {
  /// How far a step may go towards the boundary: this part of the way.
  static constexpr double kFraction = 0.999;
  /// T starts this far above the largest load: of the even shares, or of the shares of a warm
  /// start.
  static constexpr double kColdSlack = 0.05;
  static constexpr double kWarmSlack = 0.005;
  /// A warm start begins at the point where the gap of the last solve first was at most kKeep of T.
  /// Later points are too close to the boundary. Shares and prices are pulled to the middle by
  /// kPull.
  static constexpr double kKeep = 0.03;
  static constexpr double kPull = 0.1;
  /// The diagonal of the matrix is raised by this part of itself; in float by more.
  static constexpr double kRidge = 1e-13;
  static constexpr double kFloatRidge = 2e-6;
};

}  // namespace lplb::solvers
