// SPDX-License-Identifier: MIT
#include <algorithm>
#include <cmath>
#include <map>

#include "core/format.h"
#include "simulate/report/charts.h"
#include "simulate/report/lines.h"
#include "simulate/report/markup.h"
#include "simulate/report/styles.h"

namespace lplb::report {
namespace {

constexpr std::int64_t kMostMarks = 64;  // more domains or rebalances are not marked

/// The time of a batch, 0 to 1000.
double time_at(const SimulateReport& report, double batch) {
  return 1000 * batch / static_cast<double>(report.num_batches);
}

double percent_at(const SimulateReport& report, std::int64_t batch) {
  return time_at(report, static_cast<double>(batch)) / 10;
}

/// The points of a line: each bucket's mean at the middle of the bucket. The first and the last
/// value extend to the edges. Buckets without pairs have no point.
std::string points(const SimulateReport& report, const PolicyReport& policy, const Axis& axis,
                   int height) {
  const std::vector<std::int64_t>& start = report.bucket_start;
  std::string out;
  const auto add = [&](double x, double value) {
    out += formatted("{:.1f},{:.1f} ", x, height_at(axis, value, height));
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

/// A batch is as wide as the distance of two batches, and its number is at its middle.
std::string batch_marks(const SimulateReport& report, int height) {
  const Axis axis = make_axis(0, static_cast<double>(report.num_batches), 1, 5);
  const auto step = std::max<std::int64_t>(1, std::llround(axis.step));
  std::string out;
  for (std::int64_t batch = 0; batch < report.num_batches; batch += step) {
    out += formatted(R"(<line class="mark" x1="{0:.2f}%" x2="{0:.2f}%" y1="{1}" y2="{2}"/>)"
                     R"(<text x="{0:.2f}%" y="{3}" text-anchor="middle">{4}</text>)",
                     time_at(report, static_cast<double>(batch) + 0.5) / 10, height, height + 5,
                     height + 19, grouped(batch));
  }
  return out;
}

bool marks_domains(const SimulateReport& report) {
  const auto count = static_cast<std::int64_t>(report.domains.size());
  return count > 0 && count <= kMostMarks;
}

std::string domain_marks(const SimulateReport& report, int height) {
  std::string out;
  if (!marks_domains(report)) return out;
  for (const DomainStart& domain : report.domains) {
    out += formatted(R"(<g class="domain"><line x1="{0:.2f}%" x2="{0:.2f}%" y1="-16" y2="{1}"/>)"
                     R"(<text x="{0:.2f}%" dx="4" y="-6">{2}</text></g>)",
                     percent_at(report, domain.first_batch), height, escape(domain.name));
  }
  return out;
}

/// Whether a policy rebalances at every rebalance_every-th batch. Controllers do not.
bool has_rebalances(const SimulateReport& report) {
  return std::ranges::any_of(report.policies, [](const auto& p) {
    return p.rebalances > 0 && !p.name.starts_with("controller+");
  });
}

/// Whether each rebalance has a mark. If every batch has one, marks say nothing.
bool marks_rebalances(const SimulateReport& report) {
  const Index every = report.settings.rebalance_every;
  return has_rebalances(report) && every > 1 && (report.num_batches - 1) / every <= kMostMarks;
}

std::string rebalance_marks(const SimulateReport& report, int height) {
  std::string out;
  if (!marks_rebalances(report)) return out;
  const Index every = report.settings.rebalance_every;
  for (std::int64_t batch = every; batch < report.num_batches; batch += every) {
    out += formatted(R"(<svg class="rebalance" x="{:.2f}%" y="{}" overflow="visible">)"
                     R"(<path d="M0-8l4 8h-8z"/></svg>)",
                     percent_at(report, batch), height);
  }
  return out;
}

/// The layers that a controller rebalances, by batch.
std::map<std::int64_t, int> decided_batches(const PolicyReport& policy) {
  std::map<std::int64_t, int> layers;
  for (const ReplayedDecision& made : policy.decisions) ++layers[made.batch];
  return layers;
}

/// A triangle in the policy's colour at each batch before which its controller rebalances layers.
std::string decision_marks(const SimulateReport& report, int height) {
  const std::vector<std::string> classes = policy_classes(report);
  std::string out;
  for (std::size_t i = 0; i < report.policies.size(); ++i) {
    for (const auto& [batch, layers] : decided_batches(report.policies[i])) {
      out +=
          formatted(R"(<svg class="rebalance decision {}" x="{:.2f}%" y="{}" overflow="visible">)"
                    R"(<title>{}, batch {}: {}</title><path d="M0-8l4 8h-8z"/></svg>)",
                    classes[i], percent_at(report, batch), height, escape(report.policies[i].name),
                    batch, counted(layers, "layer"));
    }
  }
  return out;
}

bool has_decisions(const SimulateReport& report) {
  return std::ranges::any_of(report.policies, [](const auto& p) { return !p.decisions.empty(); });
}

std::string caption(const SimulateReport& report) {
  std::string out = "Each batch is drawn at its middle.";
  if (marks_domains(report)) out += " Vertical lines: another kind of text begins.";
  if (marks_rebalances(report)) {
    out += formatted(" Triangles: a rebalance, every {}.",
                     counted(report.settings.rebalance_every, "batch"));
  } else if (has_rebalances(report)) {
    const Index every = report.settings.rebalance_every;
    out += every == 1 ? " A rebalance comes before every batch but the first."
                      : formatted(" A rebalance comes every {}.", counted(every, "batch"));
  }
  if (has_decisions(report)) out += " Coloured triangles: a controller rebalances layers.";
  return out;
}

bool has_time(const SimulateReport& report) {
  return report.num_batches > 0 && !report.bucket_start.empty() &&
         std::ranges::all_of(report.policies, [&](const PolicyReport& p) {
           return p.over_time.size() == report.bucket_start.size();
         });
}

/// The values of layer after layer, with the four decimals that a reader needs.
std::string layer_values(const PolicyReport& policy) {
  std::string out;
  for (const double value : policy.layer_over_time) {
    if (!out.empty()) out += ' ';
    out += std::isfinite(value) ? formatted("{:.4f}", value) : "nan";
  }
  return out;
}

double worst_of(const PolicyReport& policy) {
  double worst = std::nan("");
  for (const double value : policy.over_time) worst = std::fmax(worst, value);
  return worst;
}

std::vector<double> worst_of_all(const SimulateReport& report) {
  std::vector<double> worst;
  worst.reserve(report.policies.size());
  for (const PolicyReport& policy : report.policies) worst.push_back(worst_of(policy));
  return worst;
}

std::string description(const SimulateReport& report) {
  std::string out;
  for (const PolicyReport& policy : report.policies) {
    double least = std::nan("");
    for (const double value : policy.over_time) least = std::fmin(least, value);
    out += formatted("{}: from {} to {}. ", escape(policy.name), fixed(least, 3),
                     fixed(worst_of(policy), 3));
  }
  return out;
}

std::string lines(const SimulateReport& report, const std::vector<std::string>& classes,
                  const Axis& axis, int height) {
  std::string out;
  for (std::size_t i = 0; i < report.policies.size(); ++i) {
    const PolicyReport& policy = report.policies[i];
    out += formatted(R"(<g class="{}" data-policy="{}" data-metric="over_time" data-values="{}" )"
                     R"(data-layers="{}"><polyline class="line" points="{}"/></g>
)",
                     classes[i], escape(policy.name), exact_list(policy.over_time),
                     layer_values(policy), points(report, policy, axis, height));
  }
  return out;
}

/// The value at which each line ends.
std::vector<double> last_values(const SimulateReport& report) {
  std::vector<double> out;
  out.reserve(report.policies.size());
  for (const PolicyReport& policy : report.policies) {
    const auto last = std::find_if(policy.over_time.rbegin(), policy.over_time.rend(),
                                   [](double value) { return std::isfinite(value); });
    out.push_back(last == policy.over_time.rend() ? 1 : *last);
  }
  return out;
}

}  // namespace

std::string over_time_html(const SimulateReport& report) {
  return over_time_to_html(report, axis_end(worst_of_all(report)));
}

std::string over_time_to_html(const SimulateReport& report, double end) {
  if (!has_time(report)) return "<p>No batch was replayed.</p>\n";
  const int height = chart_height(report.policies.size());
  const std::vector<double> worst = worst_of_all(report);
  const Axis axis = make_axis(1, end, kMinSpan, 5);
  const std::vector<std::string> classes = policy_classes(report);
  // Lines of policies that are cut off leave the plot at its top.
  const bool cut = std::ranges::any_of(worst, [&](double value) { return value > axis.high; });
  return formatted(R"(<figure class="time"><div class="plot" style="padding-right:{}px">)"
                   R"(<svg width="100%" height="{}" role="img"><title>Imbalance over time</title>)"
                   R"(<desc>{}</desc><g class="values">{}</g><g class="times">{}{}{}</g>)"
                   R"(<text class="axis" x="50%" y="{}" text-anchor="middle">batch</text>)"
                   R"(<svg class="lines{}" width="100%" height="{}" viewBox="0 0 1000 {}" )"
                   R"(preserveAspectRatio="none">
{}</svg><svg class="ends" x="100%" overflow="visible">{}</svg></svg></div>
{}<figcaption>{}</figcaption>
</figure>
)",
                   end_width(report, cut), height, description(report), value_marks(axis, height),
                   batch_marks(report, height), domain_marks(report, height),
                   rebalance_marks(report, height) + decision_marks(report, height), height + 37,
                   cut ? " cut" : "", height, height, lines(report, classes, axis, height),
                   line_ends(report, classes, last_values(report), axis, height), dash_key(report),
                   caption(report));
}

}  // namespace lplb::report
