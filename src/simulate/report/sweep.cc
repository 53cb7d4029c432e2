// SPDX-License-Identifier: MIT
#include "simulate/report/sweep.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "core/format.h"
#include "simulate/report/answer.h"
#include "simulate/report/lines.h"
#include "simulate/report/markup.h"
#include "simulate/report/page.h"
#include "simulate/report/styles.h"

namespace lplb::report {
namespace {

constexpr double kEnough = 1.05;

/// A report with all policies of the sweep, for what policies look like.
SimulateReport named(const Sweep& sweep) {
  SimulateReport report;
  for (const std::string& name : sweep.policies) {
    report.policies.emplace_back();
    report.policies.back().name = name;
  }
  return report;
}

double sweep_mean(const Sweep& sweep, std::size_t i, const std::string& policy) {
  const PolicyReport* found = find(sweep, i, policy);
  return found == nullptr ? std::nan("") : found->imbalance.mean;
}

/// Values are equally far apart: they may be 0, 1, 2, 4, 8.
double position(const Sweep& sweep, std::size_t i) {
  return 100 * (static_cast<double>(i) + 0.5) / static_cast<double>(sweep.values.size());
}

std::string line(const Sweep& sweep, const std::string& policy, const Axis& axis, int height) {
  std::string points, marks;
  for (std::size_t i = 0; i < sweep.values.size(); ++i) {
    const double value = sweep_mean(sweep, i, policy);
    if (!std::isfinite(value)) continue;
    const double y = height_at(axis, value, height);
    points += formatted("{:.1f},{:.1f} ", 10 * position(sweep, i), y);
    if (y >= 0)
      marks += formatted(R"(<circle class="mean" cx="{:.2f}%" cy="{:.1f}" r="4"/>)",
                         position(sweep, i), y);
  }
  return formatted(R"(<svg class="lines cut" width="100%" height="{0}" viewBox="0 0 1000 {0}" )"
                   R"(preserveAspectRatio="none"><polyline class="line" points="{1}"/></svg>{2})",
                   height, points, marks);
}

std::string chart(const Sweep& sweep) {
  const SimulateReport look = named(sweep);
  const std::vector<std::string> classes = policy_classes(look);
  std::vector<double> worst, last;
  for (const std::string& policy : sweep.policies) {
    worst.push_back(std::nan(""));
    last.push_back(1);
    for (std::size_t i = 0; i < sweep.values.size(); ++i) {
      const double value = sweep_mean(sweep, i, policy);
      worst.back() = std::fmax(worst.back(), value);
      if (std::isfinite(value)) last.back() = value;
    }
  }
  const Axis axis = make_axis(1, axis_end(worst), kMinSpan, 5);
  const int height = chart_height(sweep.policies.size());
  std::string lines, marks;
  for (std::size_t i = 0; i < sweep.policies.size(); ++i) {
    lines += formatted("<g class=\"{}\">{}</g>\n", classes[i],
                       line(sweep, sweep.policies[i], axis, height));
  }
  for (std::size_t i = 0; i < sweep.values.size(); ++i) {
    marks += formatted(R"(<text x="{:.2f}%" y="{}" text-anchor="middle">{}</text>)",
                       position(sweep, i), height + 19, grouped(sweep.values[i]));
  }
  const bool cut = std::ranges::any_of(last, [&](double value) { return value > axis.high; });
  return formatted(
      R"(<figure class="sweep"><div class="plot" style="padding:16px {}px 44px 40px">)"
      R"(<svg width="100%" height="{}" role="img"><title>Mean imbalance by {}</title>{}{}{})"
      R"(<text class="axis" x="50%" y="{}" text-anchor="middle">{}</text>)"
      R"(<svg class="ends" x="100%" overflow="visible">{}</svg></svg></div>
{}<figcaption>Lower is better; 1.0 is perfect.</figcaption></figure>
)",
      end_width(look, cut), height, escape(sweep.setting), value_marks(axis, height), marks, lines,
      height + 37, escape(sweep.setting), line_ends(look, classes, last, axis, height),
      dash_key(look));
}

struct Figure {
  const char* title;
  const char* metric;  ///< its path in sweep_json()
  int decimals;
  double (*value)(const PolicyReport&);
};

std::string table(const Sweep& sweep, const Figure& figure) {
  const std::vector<std::string> classes = policy_classes(named(sweep));
  std::string heads, rows;
  for (const std::int64_t value : sweep.values) {
    heads += formatted("<th scope=\"col\">{}</th>", grouped(value));
  }
  for (std::size_t p = 0; p < sweep.policies.size(); ++p) {
    const std::string& name = sweep.policies[p];
    rows += formatted(R"(<tr class="{}"><th scope="row">{}<span class="name">{}</span></th>)",
                      classes[p], swatch(), escape(name));
    for (std::size_t i = 0; i < sweep.values.size(); ++i) {
      const PolicyReport* policy = find(sweep, i, name);
      const double value = policy == nullptr ? std::nan("") : figure.value(*policy);
      rows += formatted("<td{}>{}</td>", data_attributes(name, figure.metric, value),
                        fixed(value, figure.decimals));
    }
    rows += "</tr>\n";
  }
  return formatted(
      "<h3>{}</h3>\n<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"{}\">\n"
      "<table class=\"values\"><thead><tr><th scope=\"col\">{}</th>{}</tr></thead>\n<tbody>\n{}"
      "</tbody></table></div>\n",
      figure.title, figure.title, escape(sweep.setting), heads, rows);
}

std::string tables(const Sweep& sweep) {
  std::string out;
  for (const Figure& figure :
       {Figure{"Mean imbalance", "imbalance.mean", 3,
               [](const PolicyReport& p) { return p.imbalance.mean; }},
        Figure{"p99 of the imbalance", "imbalance.p99", 3,
               [](const PolicyReport& p) { return p.imbalance.p99; }},
        Figure{"Experts moved per rebalance and layer", "moved_experts.mean", 1,
               [](const PolicyReport& p) { return p.moved_experts_mean; }}}) {
    out += table(sweep, figure);
  }
  return out;
}

const SimulateReport* first_report(const Sweep& sweep) {
  for (const SimulateReport& report : sweep.reports) {
    if (!report.policies.empty()) return &report;
  }
  return nullptr;
}

}  // namespace

const PolicyReport* find(const Sweep& sweep, std::size_t i, const std::string& policy) {
  for (const PolicyReport& found : sweep.reports[i].policies) {
    if (found.name == policy) return &found;
  }
  return nullptr;
}

std::string enough_text(const Sweep& sweep) {
  if (sweep.setting != "redundants" && sweep.setting != "num-replicas") return "";
  std::string enough, never;
  for (const std::string& policy : sweep.policies) {
    const std::string split = split_class(policy);
    if (split != "exact" && split != "copied") continue;
    std::size_t from = sweep.values.size();
    while (from > 0 && sweep_mean(sweep, from - 1, policy) <= kEnough) --from;
    if (from < sweep.values.size()) {
      enough += formatted("{}{} from {} {}", enough.empty() ? "" : ", ", policy, sweep.setting,
                          sweep.values[from]);
    } else {
      never += (never.empty() ? "" : ", ") + policy;
    }
  }
  if (enough.empty() && never.empty()) return "";
  const std::string goal = formatted("A mean imbalance of at most {}", kEnough);
  if (enough.empty()) return formatted("{}: none of these values is enough for {}.", goal, never);
  return formatted("{}: {}{}.", goal, enough,
                   never.empty() ? "" : formatted("; not enough for {}", never));
}

std::string sweep_json(const Sweep& sweep) {
  using OrderedJson = nlohmann::ordered_json;
  OrderedJson points = OrderedJson::array();
  for (std::size_t i = 0; i < sweep.values.size(); ++i) {
    OrderedJson point = {{"value", sweep.values[i]}, {"policies", OrderedJson::array()}};
    if (!sweep.reports[i].policies.empty()) {
      const OrderedJson report = OrderedJson::parse(report_json(sweep.reports[i]));
      point["settings"] = report["settings"];
      point["policies"] = report["policies"];
      for (OrderedJson& policy : point["policies"]) {
        for (const char* key : {"layers", "over_time", "rank_heat"}) policy.erase(key);
      }
    }
    points.push_back(std::move(point));
  }
  const SimulateReport* report = first_report(sweep);
  const OrderedJson json = {
      {"trace", report == nullptr ? OrderedJson() : OrderedJson(report->trace.name)},
      {"synthetic", report != nullptr && report->trace.synthetic},
      {"sweep", sweep.setting},
      {"points", std::move(points)},
      {"problems", sweep.problems}};
  return json.dump(1, ' ', false, OrderedJson::error_handler_t::replace) + "\n";
}

std::string sweep_html(const Sweep& sweep, const std::string& command) {
  const SimulateReport* report = first_report(sweep);
  const SimulateReport none;
  const TraceInfo& trace = (report == nullptr ? none : *report).trace;
  const std::string badge = synthetic_badge(report == nullptr ? none : *report);
  std::string out = page_head(formatted("LPLB: {} for {}{}", sweep.setting, trace.name,
                                        trace.synthetic ? " (synthetic)" : ""));
  out += "<header>\n" +
         page_top(formatted("LPLB replays of <b>{}</b>{}", escape(trace.name), badge)) +
         formatted("<p class=\"question\">What do {} change?</p>\n", escape(sweep.setting));
  const std::string answer = enough_text(sweep);
  out +=
      formatted("<h1>{}</h1>\n", answer.empty() ? "Mean imbalance of each policy" : escape(answer));
  for (const std::string& problem : sweep.problems) {
    out += formatted("<p class=\"notice\">{}</p>\n", escape(problem));
  }
  out += "</header>\n<main>\n";
  out += page_section("chart", "Mean imbalance" + badge,
                      "Largest rank load / mean rank load, over all batches and layers.",
                      chart(sweep));
  out += page_section("tables", "Figures" + badge,
                      "A row for each policy, a column for each value.", tables(sweep));
  out += page_section("origin", "How this was made" + badge,
                      "The same command makes the same figures.",
                      formatted("<pre><code data-command>{}</code></pre>\n", words(command)));
  return out + "</main>\n" + page_end();
}

}  // namespace lplb::report
