// SPDX-License-Identifier: MIT
#include "simulate/report/compare.h"

#include <algorithm>
#include <cmath>

#include "core/format.h"
#include "simulate/report/charts.h"
#include "simulate/report/markup.h"
#include "simulate/report/page.h"
#include "simulate/report/styles.h"

namespace lplb::report {
namespace {

constexpr std::array<const char*, 2> kSide = {"A", "B"};

struct Figure {
  const char* title;
  int decimals;
  double (*value)(const PolicyReport&);
};

constexpr std::array kFigures = {
    Figure{"mean", 3, [](const PolicyReport& p) { return p.imbalance.mean; }},
    Figure{"p99", 3, [](const PolicyReport& p) { return p.imbalance.p99; }},
    Figure{"worst", 3, [](const PolicyReport& p) { return p.imbalance.max; }},
    Figure{"moved", 1, [](const PolicyReport& p) { return p.moved_experts_mean; }}};

std::string figures_table(const Pair& pair) {
  std::string heads, kinds, rows;
  for (const Figure& figure : kFigures) {
    heads += formatted(R"(<th scope="colgroup" colspan="2" class="policy">{}</th>)", figure.title);
    kinds += R"(<th scope="col">A</th><th scope="col">B</th>)";
  }
  for (const Both& both : policies_of(pair)) {
    rows += formatted(R"(<tr><th scope="row">{}</th>)", escape(both.name));
    for (const Figure& figure : kFigures) {
      for (const PolicyReport* side : both.side) {
        const double value = side == nullptr ? std::nan("") : figure.value(*side);
        rows +=
            formatted("<td data-value=\"{}\">{}</td>", exact(value), fixed(value, figure.decimals));
      }
    }
    rows += formatted("<td>{}</td></tr>\n", change_text(both));
  }
  return formatted(
      "<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"Figures of both\">\n"
      "<table class=\"experts\"><thead><tr><td></td>{}<td></td></tr>\n<tr><th scope=\"col\">policy"
      "</th>{}<th scope=\"col\">mean, B to "
      "A</th></tr></thead>\n<tbody>\n{}</tbody></table></div>\n",
      heads, kinds, rows);
}

std::string differences_table(const Pair& pair) {
  std::string rows;
  for (const Difference& difference : differences(pair)) {
    rows +=
        formatted("<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td></tr>\n",
                  escape(difference.key), escape(difference.value[0]), escape(difference.value[1]));
  }
  if (rows.empty()) return "<p>Trace and settings are the same.</p>\n";
  return "<table class=\"settings both\"><thead><tr><th scope=\"col\">what</th><th "
         "scope=\"col\">A</th>"
         "<th scope=\"col\">B</th></tr></thead>\n<tbody>\n" +
         rows + "</tbody></table>\n";
}

/// Where the axes of both end: at the farther end of the two.
double common_end(const Pair& pair, double (*worst_of)(const PolicyReport&)) {
  double end = 1;
  for (const ReadReport& side : pair.side) {
    std::vector<double> worst;
    worst.reserve(side.report.policies.size());
    for (const PolicyReport& policy : side.report.policies) worst.push_back(worst_of(policy));
    end = std::max(end, axis_end(worst));
  }
  return end;
}

double worst_over_time(const PolicyReport& policy) {
  double worst = std::nan("");
  for (const double value : policy.over_time) worst = std::fmax(worst, value);
  return worst;
}

std::string beside(const Pair& pair, std::string (*chart)(const SimulateReport&, double),
                   double end) {
  std::string out = "<div class=\"maps\">\n";
  for (std::size_t i = 0; i < 2; ++i) {
    out += formatted("<div><h3>{}: <span class=\"name\">{}</span></h3>\n{}</div>\n", kSide[i],
                     escape(pair.path[i]), chart(pair.side[i].report, end));
  }
  return out + "</div>\n";
}

std::string headline(const Pair& pair) {
  const Both* best = nullptr;
  const std::vector<Both> all = policies_of(pair);
  for (const Both& both : all) {
    if (both.side[0] == nullptr || both.side[1] == nullptr) continue;
    const auto mean = [](const Both& b) { return b.side[1]->imbalance.mean; };
    if (best == nullptr || mean(both) < mean(*best)) best = &both;
  }
  if (best == nullptr) return "The two reports have no policy in common.";
  return formatted("{}: mean imbalance {} in A, {} in B ({}).", best->name,
                   fixed(best->side[0]->imbalance.mean, 3), fixed(best->side[1]->imbalance.mean, 3),
                   change_text(*best));
}

}  // namespace

std::vector<Both> policies_of(const Pair& pair) {
  std::vector<Both> all;
  for (std::size_t i = 0; i < 2; ++i) {
    for (const PolicyReport& policy : pair.side[i].report.policies) {
      auto found = std::ranges::find_if(all, [&](const Both& b) { return b.name == policy.name; });
      if (found == all.end()) found = all.insert(all.end(), Both{policy.name, {}});
      found->side[i] = &policy;
    }
  }
  return all;
}

std::vector<Difference> differences(const Pair& pair) {
  std::vector<Difference> all;
  for (std::size_t i = 0; i < 2; ++i) {
    for (const auto& [key, value] : pair.side[i].facts) {
      auto found =
          std::ranges::find_if(all, [&key = key](const Difference& d) { return d.key == key; });
      if (found == all.end()) found = all.insert(all.end(), Difference{key, {}});
      found->value[i] = value;
    }
  }
  std::erase_if(all, [](const Difference& d) {
    return d.value[0] == d.value[1] || d.key == "settings.num_threads";
  });
  return all;
}

std::string change_text(const Both& both) {
  if (both.side[0] == nullptr || both.side[1] == nullptr) return "–";
  const double change = both.side[1]->imbalance.mean / both.side[0]->imbalance.mean - 1;
  return change > 0 ? formatted("+{}", percent(change)) : percent(change);
}

std::string compare_html(const Pair& pair, const std::string& command) {
  std::string out = page_head(formatted("LPLB: {} and {}", pair.path[0], pair.path[1]));
  std::string badge;
  for (const ReadReport& side : pair.side) {
    if (badge.empty()) badge = synthetic_badge(side.report);
  }
  out += "<header>\n" +
         page_top(formatted("LPLB: A is <b>{}</b> ({}), B is <b>{}</b> ({}){}",
                            escape(pair.path[0]), escape(pair.side[0].report.trace.name),
                            escape(pair.path[1]), escape(pair.side[1].report.trace.name), badge)) +
         formatted("<h1>{}</h1>\n</header>\n<main>\n", escape(headline(pair)));
  out += page_section("differences", "What differs" + badge,
                      "Trace and settings of the two replays, where they are not the same.",
                      differences_table(pair));
  out += page_section("figures", "Figures" + badge,
                      "Imbalance, and experts moved per rebalance and layer.", figures_table(pair));
  const double worst = common_end(pair, [](const PolicyReport& p) { return p.imbalance.max; });
  out += page_section("distribution", "Imbalance of each policy" + badge,
                      "Both have the same axis.", beside(pair, ranges_to_html, worst));
  out += page_section("time", "Imbalance over time" + badge, "Both have the same vertical axis.",
                      beside(pair, over_time_to_html, common_end(pair, worst_over_time)));
  out += page_section("origin", "How this was made" + badge, "",
                      formatted("<pre><code data-command>{}</code></pre>\n", words(command)));
  return out + "</main>\n" + page_end();
}

}  // namespace lplb::report
