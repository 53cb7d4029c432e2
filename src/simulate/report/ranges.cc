// SPDX-License-Identifier: MIT
#include <algorithm>
#include <cmath>

#include "core/format.h"
#include "simulate/report/charts.h"
#include "simulate/report/markup.h"
#include "simulate/report/styles.h"

namespace lplb::report {
namespace {

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

/// What does not fit on the axis, in words.
std::string beyond(const Distribution& d, const Axis& axis) {
  const bool all = d.mean > axis.high;
  return formatted(R"(<text class="beyond" x="100%" y="{}" text-anchor="end">{}worst {} ▸</text>)",
                   all ? 22 : 11, all ? formatted("mean {}, ", fixed(d.mean, 3)) : "",
                   fixed(d.max, 3));
}

std::string marks(const Distribution& d, const Axis& axis, int middle) {
  const auto line = [&](const char* kind, double from, double to) {
    return formatted(R"(<line class="{}" x1="{:.2f}%" x2="{:.2f}%" y1="{}" y2="{}"/>)", kind,
                     axis.at(from), axis.at(to), middle, middle);
  };
  std::string out = line("tail", d.p50, d.max) + line("most", d.p50, d.p95);
  const auto mark = [&](double value, const char* shape) {
    if (value <= axis.high) out += symbol(axis.at(value), middle, shape);
  };
  mark(d.p99, kP99);
  mark(d.max, kWorst);
  mark(d.mean, kMean);
  return d.max > axis.high ? out + beyond(d, axis) : out;
}

std::string range_row(const PolicyReport& policy, const std::string& classes, const Axis& axis) {
  constexpr int kHeight = 36;
  const Distribution& d = policy.imbalance;
  const std::string name = escape(policy.name);
  std::string out = formatted(
      R"(<div class="row {}"><span class="name">{}{}</span><span class="mean-text">{}</span>)"
      R"(<svg class="range" width="100%" height="{}" role="img" data-policy="{}" )"
      R"(data-metric="imbalance" data-values="{}"><title>Imbalance of {}</title>)"
      R"(<desc>mean {}, p50 {}, p95 {}, p99 {}, worst {}</desc><g class="drawn">)",
      classes, swatch(), name, fixed(d.mean, 3), kHeight, name,
      exact_list({d.mean, d.p50, d.p95, d.p99, d.max}), name, fixed(d.mean, 3), fixed(d.p50, 3),
      fixed(d.p95, 3), fixed(d.p99, 3), fixed(d.max, 3));
  out += grid(axis, kHeight);
  if (std::isfinite(d.mean) && std::isfinite(d.max)) out += marks(d, axis, kHeight / 2);
  return out + "</g></svg></div>\n";
}

std::string scale(const Axis& axis) {
  std::string out;
  for (int i = 0; i < axis.marks(); ++i) {
    out += formatted(R"(<text x="{:.2f}%" y="14" text-anchor="middle">{}</text>)",
                     axis.at(axis.mark(i)), fixed(axis.mark(i), std::max(1, axis.decimals)));
  }
  return out;
}

}  // namespace

std::string ranges_html(const SimulateReport& report) {
  std::vector<double> worst;
  worst.reserve(report.policies.size());
  for (const PolicyReport& policy : report.policies) worst.push_back(policy.imbalance.max);
  return ranges_to_html(report, axis_end(worst));
}

std::string ranges_to_html(const SimulateReport& report, double end) {
  const Axis axis = make_axis(1, end, kMinSpan, 8);
  const std::vector<std::string> classes = policy_classes(report);
  std::string out = "<figure class=\"ranges\">\n" + key();
  for (std::size_t i = 0; i < report.policies.size(); ++i) {
    out += range_row(report.policies[i], classes[i], axis);
  }
  return out +
         R"(<div class="row"><svg class="range" width="100%" height="40" aria-hidden="true">)"
         R"(<g class="drawn">)" +
         scale(axis) +
         R"(</g><text class="axis" x="50%" y="33" text-anchor="middle">max / mean rank load</text>)"
         R"(</svg></div>
<figcaption>Left is better; 1.0 is perfect. The number of each row is its mean.</figcaption>
</figure>
)";
}

}  // namespace lplb::report
