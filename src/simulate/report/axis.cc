// SPDX-License-Identifier: MIT
#include <algorithm>
#include <cmath>

#include "simulate/report/charts.h"

namespace lplb::report {

int Axis::marks() const { return static_cast<int>(std::lround((high - low) / step)) + 1; }

double Axis::at(double value) const {
  return 100 * std::clamp((value - low) / (high - low), 0.0, 1.0);
}

Axis make_axis(double low, double high, double min_span, int max_steps) {
  const double span = std::max(std::isfinite(high) ? high - low : 0, min_span);
  const double rough = span / max_steps;
  const double power = std::pow(10, std::floor(std::log10(rough)));
  double step = 10 * power;
  for (const double factor : {5.0, 2.0, 1.0}) {
    // The comparison has a little slack, so that rounding errors do not turn 0.3 / 3 into steps of
    // 0.2.
    if (factor * power >= rough * (1 - 1e-9)) step = factor * power;
  }
  const double steps = std::max(1.0, std::ceil(span / step - 1e-9));
  const int decimals = std::max(0, -static_cast<int>(std::floor(std::log10(step) + 1e-9)));
  return {low, low + steps * step, step, decimals};
}

double axis_end(std::vector<double> worst, double min_span) {
  std::erase_if(worst, [](double value) { return !std::isfinite(value); });
  if (worst.empty()) return 1;
  std::sort(worst.begin(), worst.end());
  constexpr double kSqueezed = 3;  // the others would have less than a third of the axis
  for (std::size_t i = (worst.size() + 1) / 2; i < worst.size(); ++i) {
    if (worst[i] - 1 > kSqueezed * std::max(worst[i - 1] - 1, min_span)) return worst[i - 1];
  }
  return worst.back();
}

}  // namespace lplb::report
