// SPDX-License-Identifier: MIT
#include "simulate/report/answer.h"

#include <cmath>
#include <vector>

#include "core/format.h"
#include "simulate/report/markup.h"

namespace lplb::report {
namespace {

/// If the cut is below this, the page says "as much", because its figures would read 0.0 %.
constexpr double kNothing = 0.0005;

const PolicyReport* find(const SimulateReport& report, const std::string& name) {
  for (const PolicyReport& policy : report.policies) {
    if (policy.name == name && std::isfinite(policy.imbalance.mean)) return &policy;
  }
  return nullptr;
}

std::string headline(const SimulateReport& report, const Answer& answer) {
  if (report.policies.empty()) return "No policy was replayed.";
  if (answer.best == nullptr) {
    return answer.base == nullptr
               ? "No policy has a finite imbalance."
               : formatted("{} leaves an imbalance of {}; no LPLB policy was replayed.",
                           spoken(*answer.base), fixed(answer.base->imbalance.mean, 3));
  }
  if (answer.base == nullptr) {
    return formatted("LPLB leaves an imbalance of {}; nothing was replayed to compare with.",
                     fixed(answer.best->imbalance.mean, 3));
  }
  const std::string base = spoken(*answer.base);
  if (answer.cut >= kNothing) {
    return formatted("LPLB cuts the slowest rank’s load by <strong>{}</strong> against&nbsp;{}.",
                     percent(answer.cut), base);
  }
  if (answer.cut > -kNothing) {
    return formatted("LPLB does not help here: the slowest rank’s load is that of {}.", base);
  }
  const double more = answer.best->imbalance.mean / answer.base->imbalance.mean - 1;
  return formatted(
      "LPLB does not help here: the slowest rank’s load grows by <strong>{}</strong> "
      "against&nbsp;{}.",
      percent(more), base);
}

struct Tile {
  std::string label;
  const PolicyReport& policy;
  const char* metric;
  double value;
  std::string number;
  std::string note;
};

Tile imbalance_tile(const char* label, const PolicyReport& policy) {
  const double mean = policy.imbalance.mean;
  return {label,
          policy,
          "imbalance.mean",
          mean,
          fixed(mean, 3),
          formatted("mean imbalance; the average rank waits {}", percent(waiting_share(mean)))};
}

Tile solve_tile(const PolicyReport& policy) {
  const auto optimal = static_cast<double>(policy.optimal);
  const int decimals = policy.solves == policy.optimal ? 0 : 2;
  return {"Proof",
          policy,
          "optimal",
          optimal,
          percent(optimal / static_cast<double>(policy.solves), decimals),
          formatted("of {} proven optimal; the median solve took {} µs",
                    counted(policy.solves, "split"), fixed(policy.solve_us.p50, 2))};
}

std::string tiles_html(const SimulateReport& report, const Answer& answer) {
  const auto& [best, base, cut] = answer;
  std::vector<Tile> tiles;
  if (base != nullptr) tiles.push_back(imbalance_tile(best == nullptr ? "Here" : "Before", *base));
  if (best != nullptr) tiles.push_back(imbalance_tile("With LPLB", *best));
  if (best != nullptr && best->solves > 0) tiles.push_back(solve_tile(*best));
  std::string out;
  for (const Tile& tile : tiles) {
    out += formatted(R"(<div class="tile"><h2>{} <span class="name">{}</span>{}</h2>)"
                     R"(<p class="number"{}>{}</p><p>{}</p></div>
)",
                     tile.label, escape(tile.policy.name), synthetic_badge(report),
                     data_attributes(tile.policy.name, tile.metric, tile.value), tile.number,
                     tile.note);
  }
  return out.empty() ? "" : "<div class=\"tiles\">\n" + out + "</div>\n";
}

std::string meaning(const Answer& answer) {
  std::string out =
      "<p class=\"lead\">An imbalance of 1.0 is perfect: every rank has the mean load. ";
  const auto carries = [](const PolicyReport& policy) {
    const double mean = policy.imbalance.mean;
    return formatted(
        "<span class=\"name\">{}</span> the slowest rank carries {} times the mean load on "
        "average, so {} of the expert time of a step is waiting",
        escape(policy.name), fixed(mean, 3), percent(waiting_share(mean)));
  };
  if (answer.base != nullptr) out += "With " + carries(*answer.base) + ". ";
  if (answer.best != nullptr) out += "With " + carries(*answer.best) + ". ";
  return out + "Time is taken to be in proportion to tokens.</p>\n";
}

}  // namespace

Answer find_answer(const SimulateReport& report) {
  Answer answer;
  const PolicyReport* first_even = nullptr;
  for (const PolicyReport& policy : report.policies) {
    if (!std::isfinite(policy.imbalance.mean)) continue;
    if (!is_lplb(policy)) {
      if (first_even == nullptr) first_even = &policy;
    } else if (answer.best == nullptr || policy.imbalance.mean < answer.best->imbalance.mean) {
      answer.best = &policy;
    }
  }
  answer.base = find(report, "eplb");
  if (answer.base == nullptr) answer.base = find(report, "none");
  if (answer.base == nullptr) answer.base = first_even;
  if (answer.best != nullptr && answer.base != nullptr) {
    answer.cut = 1 - answer.best->imbalance.mean / answer.base->imbalance.mean;
  }
  return answer;
}

std::string spoken(const PolicyReport& policy) {
  if (policy.name == "eplb") return "EPLB";
  return policy.name == "none" ? "no replicas" : escape(policy.name);
}

double waiting_share(double imbalance) { return 1 - 1 / imbalance; }

std::string answer_html(const SimulateReport& report) {
  const Answer answer = find_answer(report);
  std::string attributes;
  if (answer.best != nullptr && answer.base != nullptr) {
    attributes = data_attributes(answer.best->name, "answer.cut", answer.cut) +
                 formatted(R"( data-baseline="{}")", escape(answer.base->name));
  }
  std::string out = formatted(
      "<p class=\"question\">How much can a better balance take off the slowest of {}, with {} on "
      "each?</p>\n<h1{}>{}</h1>\n",
      counted(report.settings.num_ranks, "rank"),
      counted(report.settings.redundants, "replica slot"), attributes, headline(report, answer));
  if (report.trace.synthetic) {
    out +=
        "<p class=\"notice\"><span class=\"badge\">synthetic</span> The loads were made by a "
        "formula, not recorded: no figure on this page comes from a real model.</p>\n";
  }
  return out + meaning(answer) + tiles_html(report, answer);
}

}  // namespace lplb::report
