// SPDX-License-Identifier: MIT
#include "simulate/report/charts.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/format.h"
#include "simulate/report/markup.h"

namespace lplb::report {
namespace {

constexpr double kMinSpan = 0.05;  // an imbalance axis spans at least this: noise must not fill it
constexpr std::size_t kLongestLabel = 18;

std::string grid(const Axis& axis, int height) {
  std::string out;
  for (int i = 0; i < axis.marks(); ++i) {
    const double x = axis.at(axis.mark(i));
    out +=
        formatted(R"(<line class="grid" x1="{0:.2f}%" x2="{0:.2f}%" y1="0" y2="{1}"/>)", x, height);
  }
  return out;
}

/// A symbol at (x %, y). Figures differ by the shapes of symbols, not by colours.
std::string symbol(double x, int y, const char* shape) {
  return formatted(R"(<svg x="{:.2f}%" y="{}" overflow="visible">{}</svg>)", x, y, shape);
}

constexpr const char* kMean = R"(<circle class="mean" r="5"/>)";
constexpr const char* kP99 = R"(<path class="p99" d="M0-6V6"/>)";
constexpr const char* kWorst = R"(<circle class="worst" r="4"/>)";

std::string key() {
  const auto entry = [](const std::string& marks, const char* text) {
    return formatted(R"(<li><svg width="28" height="16" aria-hidden="true">{}</svg>{}</li>)", marks,
                     text);
  };
  const std::string bar = R"(<line class="most" x1="2" x2="26" y1="8" y2="8"/>)";
  const std::string thin = R"(<line class="tail" x1="2" x2="26" y1="8" y2="8"/>)";
  return "<ul class=\"key\">" + entry(symbol(50, 8, kMean), "mean") + entry(bar, "p50 to p95") +
         entry(thin + symbol(50, 8, kP99), "p99") + entry(thin + symbol(50, 8, kWorst), "worst") +
         "</ul>\n";
}

std::string range_row(const PolicyReport& policy, const std::string& classes, const Axis& axis) {
  constexpr int kHeight = 36;
  constexpr int kMiddle = kHeight / 2;
  const Distribution& d = policy.imbalance;
  const std::string name = escape(policy.name);
  std::string out = formatted(
      R"(<div class="row {}"><span class="name">{}</span><span class="mean-text">{}</span>)"
      R"(<svg class="range" width="100%" height="{}" role="img"><title>Imbalance of {}</title>)"
      R"(<desc>mean {}, p50 {}, p95 {}, p99 {}, worst {}</desc>)",
      classes, name, fixed(d.mean, 3), kHeight, name, fixed(d.mean, 3), fixed(d.p50, 3),
      fixed(d.p95, 3), fixed(d.p99, 3), fixed(d.max, 3));
  out += grid(axis, kHeight);
  if (std::isfinite(d.mean) && std::isfinite(d.max)) {
    const auto line = [&](const char* kind, double from, double to) {
      return formatted(R"(<line class="{}" x1="{:.2f}%" x2="{:.2f}%" y1="{}" y2="{}"/>)", kind,
                       axis.at(from), axis.at(to), kMiddle, kMiddle);
    };
    out += line("tail", d.p50, d.max) + line("most", d.p50, d.p95);
    out += symbol(axis.at(d.p99), kMiddle, kP99) + symbol(axis.at(d.max), kMiddle, kWorst) +
           symbol(axis.at(d.mean), kMiddle, kMean);
  }
  return out + "</svg></div>\n";
}

struct Label {
  std::size_t policy;
  double line;  ///< where its line ends
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

double time_at(const SimulateReport& report, double batch) {
  return 1000 * batch / static_cast<double>(report.num_batches);
}

/// The points of a line: each bucket's mean at the middle of the bucket. The first and the last
/// value extend to the edges. Buckets without pairs have no point.
std::string points(const SimulateReport& report, const PolicyReport& policy, const Axis& axis,
                   int height) {
  const std::vector<std::int64_t>& start = report.bucket_start;
  std::string out;
  const auto add = [&](double x, double value) {
    out += formatted("{:.1f},{:.1f} ", x, height * (1 - axis.at(value) / 100));
  };
  for (std::size_t i = 0; i < start.size(); ++i) {
    const double value = policy.over_time[i];
    if (!std::isfinite(value)) continue;
    const bool last = i + 1 == start.size();
    const std::int64_t end = last ? report.num_batches : start[i + 1];
    if (out.empty()) add(time_at(report, static_cast<double>(start[i])), value);
    add(time_at(report, 0.5 * static_cast<double>(start[i] + end)), value);
    if (last) add(1000, value);
  }
  return out;
}

std::string time_marks(const SimulateReport& report, int height) {
  const Axis axis = make_axis(0, static_cast<double>(report.num_batches), 1, 5);
  const auto step = std::max<std::int64_t>(1, std::llround(axis.step));
  std::string out;
  for (std::int64_t batch = 0; batch < report.num_batches; batch += step) {
    out += formatted(R"(<line class="mark" x1="{0:.2f}%" x2="{0:.2f}%" y1="{1}" y2="{2}"/>)"
                     R"(<text x="{0:.2f}%" y="{3}" text-anchor="middle">{4}</text>)",
                     time_at(report, static_cast<double>(batch)) / 10, height, height + 5,
                     height + 19, grouped(batch));
  }
  return out + formatted(R"(<text class="axis" x="50%" y="{}" text-anchor="middle">batch</text>)",
                         height + 37);
}

bool has_time(const SimulateReport& report) {
  return report.num_batches > 0 && !report.bucket_start.empty() &&
         std::all_of(report.policies.begin(), report.policies.end(), [&](const PolicyReport& p) {
           return p.over_time.size() == report.bucket_start.size();
         });
}

}  // namespace

std::string ranges_html(const SimulateReport& report) {
  double worst = 1;
  for (const PolicyReport& policy : report.policies) {
    if (std::isfinite(policy.imbalance.max)) worst = std::max(worst, policy.imbalance.max);
  }
  const Axis axis = make_axis(1, worst, kMinSpan, 8);
  const std::vector<std::string> classes = policy_classes(report);
  std::string out = "<figure class=\"ranges\">\n" + key();
  for (std::size_t i = 0; i < report.policies.size(); ++i) {
    out += range_row(report.policies[i], classes[i], axis);
  }
  out += R"(<div class="row"><svg class="range" width="100%" height="40" aria-hidden="true">)";
  for (int i = 0; i < axis.marks(); ++i) {
    out += formatted(R"(<text x="{:.2f}%" y="14" text-anchor="middle">{}</text>)",
                     axis.at(axis.mark(i)), fixed(axis.mark(i), std::max(1, axis.decimals)));
  }
  return out +
         R"(<text class="axis" x="50%" y="33" text-anchor="middle">max / mean rank load</text>)"
         R"(</svg></div>
<figcaption>Left is better; 1.0 is perfect. The number of each row is its mean.</figcaption>
</figure>
)";
}

std::string over_time_html(const SimulateReport& report) {
  if (!has_time(report)) return "<p>No batch was replayed.</p>\n";
  constexpr int kGap = 16;  // distance of two lines of text
  const int height = std::max(240, kGap * static_cast<int>(report.policies.size() + 2));
  double worst = 1;
  std::size_t longest = 0;
  for (const PolicyReport& policy : report.policies) {
    for (const double value : policy.over_time) {
      if (std::isfinite(value)) worst = std::max(worst, value);
    }
    longest = std::max(longest, std::min(policy.name.size(), kLongestLabel));
  }
  const Axis axis = make_axis(1, worst, kMinSpan, 5);
  const std::vector<std::string> classes = policy_classes(report);

  std::string out = formatted(
      R"(<figure class="time"><div class="plot" style="padding-right:{}px">)"
      R"(<svg width="100%" height="{}" role="img"><title>Imbalance over time</title><desc>)",
      12 + 8 * longest, height);
  std::vector<Label> labels;
  std::string lines;
  for (std::size_t i = 0; i < report.policies.size(); ++i) {
    const PolicyReport& policy = report.policies[i];
    const std::string name = escape(policy.name);
    double least = std::nan(""), most = std::nan("");
    for (const double value : policy.over_time) {
      least = std::fmin(least, value);
      most = std::fmax(most, value);
    }
    out += formatted("{}: from {} to {}. ", name, fixed(least, 3), fixed(most, 3));
    lines += formatted(R"(<g class="{}" data-policy="{}" data-metric="over_time" data-values="{}">)"
                       R"(<polyline class="line" points="{}"/></g>
)",
                       classes[i], name, exact_list(policy.over_time),
                       points(report, policy, axis, height));
    const auto last = std::find_if(policy.over_time.rbegin(), policy.over_time.rend(),
                                   [](double value) { return std::isfinite(value); });
    const double end = last == policy.over_time.rend() ? 1 : *last;
    labels.push_back({i, height * (1 - axis.at(end) / 100), 0});
  }
  out += "</desc>";
  for (int i = 0; i < axis.marks(); ++i) {
    const double y = height * (1 - axis.at(axis.mark(i)) / 100);
    out += formatted(R"(<line class="grid" x1="0" x2="100%" y1="{0:.1f}" y2="{0:.1f}"/>)"
                     R"(<text x="-8" y="{1:.1f}" text-anchor="end">{2}</text>)",
                     y, y + 4, fixed(axis.mark(i), std::max(1, axis.decimals)));
  }
  out += time_marks(report, height);
  out += formatted(
      R"(<svg width="100%" height="{0}" viewBox="0 0 1000 {0}" preserveAspectRatio="none" )"
      R"(overflow="visible">
{1}</svg>)",
      height, lines);
  spread(labels, kGap, height);
  for (const Label& label : labels) {
    out += formatted(R"(<text class="end {}" x="100%" dx="8" y="{:.1f}">{}</text>)",
                     classes[label.policy], label.y + 4,
                     escape(shorten(report.policies[label.policy].name, kLongestLabel)));
  }
  return out +
         "</svg></div>\n<p class=\"readout\" hidden></p>\n"
         "<figcaption>Solid lines are exact splits, dashed ones even or stale splits, "
         "dotted: no replicas.</figcaption>\n</figure>\n";
}

}  // namespace lplb::report
