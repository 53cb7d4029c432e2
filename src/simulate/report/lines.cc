// SPDX-License-Identifier: MIT
#include "simulate/report/lines.h"

#include <algorithm>

#include "core/format.h"
#include "simulate/report/markup.h"

namespace lplb::report {
namespace {

constexpr std::size_t kLongestLabel = 18;
constexpr int kTextGap = 16;  // distance of two lines of text

struct Label {
  std::size_t policy;
  double line;  ///< where its line ends; negative if it is cut off at the top
  double y;     ///< where the label stands
};

/// Moves labels apart, no farther than needed, and keeps them between 0 and `height`.
void spread(std::vector<Label>& labels, double gap, double height) {
  std::stable_sort(labels.begin(), labels.end(),
                   [](const Label& a, const Label& b) { return a.line < b.line; });
  double least = 0;
  for (Label& label : labels) {
    label.y = std::max(label.line, least);
    least = label.y + gap;
  }
  double most = height;
  for (auto label = labels.rbegin(); label != labels.rend(); ++label) {
    label->y = std::min(label->y, most);
    most = label->y - gap;
  }
}

}  // namespace

int chart_height(std::size_t num_lines) {
  return std::max(240, kTextGap * static_cast<int>(num_lines + 2));
}

double height_at(const Axis& axis, double value, int height) {
  return height * (1 - (value - axis.low) / (axis.high - axis.low));
}

std::string value_marks(const Axis& axis, int height) {
  std::string out;
  for (int i = 0; i < axis.marks(); ++i) {
    const double y = height_at(axis, axis.mark(i), height);
    out += formatted(R"(<line class="grid" x1="0" x2="100%" y1="{0:.1f}" y2="{0:.1f}"/>)"
                     R"(<text x="-8" y="{1:.1f}" text-anchor="end">{2}</text>)",
                     y, y + 4, fixed(axis.mark(i), std::max(1, axis.decimals)));
  }
  return out;
}

int end_width(const SimulateReport& report, bool cut) {
  std::size_t longest = 0;
  for (const PolicyReport& policy : report.policies) {
    longest = std::max(longest, std::min(policy.name.size(), kLongestLabel));
  }
  return (cut ? 40 : 24) + 8 * static_cast<int>(longest);
}

std::string line_ends(const SimulateReport& report, const std::vector<std::string>& classes,
                      const std::vector<double>& last, const Axis& axis, int height) {
  std::vector<Label> labels;
  labels.reserve(report.policies.size());
  for (std::size_t i = 0; i < report.policies.size(); ++i) {
    labels.push_back({i, height_at(axis, last[i], height), 0});
  }
  spread(labels, kTextGap, height);
  std::string out;
  for (const Label& label : labels) {
    out += formatted(R"(<g class="{}"><polyline class="line" points="2,{:.1f} 18,{:.1f}"/>)"
                     R"(<text class="end" x="22" y="{:.1f}">{}{}</text></g>)",
                     classes[label.policy], std::max(0.0, label.line), label.y, label.y + 4,
                     escape(shorten(report.policies[label.policy].name, kLongestLabel)),
                     label.line < 0 ? " ▴" : "");
  }
  return out;
}

}  // namespace lplb::report
