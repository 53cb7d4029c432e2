// SPDX-License-Identifier: MIT
#include "simulate/report_answer.h"

#include <fmt/format.h>

#include <cmath>

#include "simulate/report_markup.h"

namespace lplb::report {
namespace {

/// Below this the page says "as much": its figures would read 0.0 %.
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
               : fmt::format("{} leaves an imbalance of {}; no LPLB policy was replayed.",
                             spoken(*answer.base), fixed(answer.base->imbalance.mean, 3));
  }
  if (answer.base == nullptr) {
    return fmt::format("LPLB leaves an imbalance of {}; nothing was replayed to compare with.",
                       fixed(answer.best->imbalance.mean, 3));
  }
  const std::string base = spoken(*answer.base);
  if (answer.cut >= kNothing) {
    return fmt::format("LPLB cuts the slowest rank’s load by <strong>{}</strong> against&nbsp;{}.",
                       percent(answer.cut), base);
  }
  if (answer.cut > -kNothing) {
    return fmt::format("LPLB does not help here: the slowest rank’s load is that of {}.", base);
  }
  const double more = answer.best->imbalance.mean / answer.base->imbalance.mean - 1;
  return fmt::format(
      "LPLB does not help here: the slowest rank’s load grows by <strong>{}</strong> "
      "against&nbsp;{}.",
      percent(more), base);
}

std::string tile(const std::string& label, const PolicyReport& policy,
                 const std::string& attributes, const std::string& number,
                 const std::string& note) {
  return fmt::format(
      R"(<div class="tile"><h3>{} <span class="name">{}</span></h3><p class="number"{}>{}</p><p>{}</p></div>
)",
      label, escape(policy.name), attributes, number, note);
}

std::string imbalance_tile(const std::string& label, const PolicyReport& policy) {
  const double mean = policy.imbalance.mean;
  return tile(label, policy, data_attributes(policy.name, "imbalance.mean", mean), fixed(mean, 3),
              fmt::format("mean imbalance: the average rank waits {} of the experts’ time",
                          percent(waiting_share(mean))));
}

std::string solve_tile(const PolicyReport& policy) {
  const bool all = policy.solves == policy.optimal;
  return tile("Proof", policy,
              data_attributes(policy.name, "optimal", static_cast<double>(policy.optimal)),
              percent(static_cast<double>(policy.optimal) / static_cast<double>(policy.solves),
                      all ? 0 : 2),
              fmt::format("of {} splits proven optimal; the median solve took {} µs",
                          grouped(policy.solves), fixed(policy.solve_us.p50, 2)));
}

std::string tiles(const Answer& answer) {
  std::string out;
  if (answer.base != nullptr) {
    out += imbalance_tile(answer.best != nullptr ? "Before" : "Here", *answer.base);
  }
  if (answer.best != nullptr) {
    out += imbalance_tile(answer.base != nullptr ? "With LPLB" : "LPLB", *answer.best);
    if (answer.best->solves > 0) out += solve_tile(*answer.best);
  }
  return out.empty() ? out : "<div class=\"tiles\">\n" + out + "</div>\n";
}

std::string meaning(const Answer& answer) {
  std::string out =
      "<p class=\"lead\">An imbalance of 1.0 is perfect: every rank has the mean load. ";
  const auto carries = [](const PolicyReport& policy) {
    const double mean = policy.imbalance.mean;
    return fmt::format(
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
  const Index ranks = report.settings.num_ranks;
  const Index redundants = report.settings.redundants;
  std::string attributes;
  if (answer.best != nullptr && answer.base != nullptr) {
    attributes = data_attributes(answer.best->name, "answer.cut", answer.cut) +
                 fmt::format(R"( data-baseline="{}")", escape(answer.base->name));
  }
  std::string out = fmt::format(
      "<p class=\"question\">How much can a better balance take off the slowest of {} rank{}, "
      "with {} replica slot{} on each?</p>\n<h1{}>{}</h1>\n",
      ranks, ranks == 1 ? "" : "s", redundants, redundants == 1 ? "" : "s", attributes,
      headline(report, answer));
  if (report.trace.synthetic) {
    out +=
        "<p class=\"notice\"><span class=\"badge\">synthetic</span> The loads were made by a "
        "formula, not recorded: no figure on this page comes from a real model.</p>\n";
  }
  return out + meaning(answer) + tiles(answer);
}

}  // namespace lplb::report
