// SPDX-License-Identifier: MIT

#include <cmath>
#include <vector>

#include "core/format.h"
#include "simulate/report/answer.h"
#include "simulate/report/markup.h"

namespace lplb::report {
namespace {

/// A card: a heading, a figure in large type, and a note.
struct Tile {
  std::string label;
  const PolicyReport& policy;
  std::string attributes;  // of the figure, for programs
  std::string number;
  std::string note;
  std::string more = {};  // HTML after the note  NOLINT(readability-redundant-member-init)
};

/// A card with the mean that policies are compared by.
Tile mean_tile(const SimulateReport& report, const char* label, const PolicyReport& policy) {
  if (policy.cost) {
    return {label, policy, data_attributes(policy.name, "cost.mean", policy.cost->max.mean),
            escape(mean_text(report, policy)),
            formatted("mean cost of a layer’s slowest rank; p99 {}",
                      escape(cost_text(report, policy.cost->max.p99)))};
  }
  const double mean = policy.imbalance.mean;
  return {label, policy, data_attributes(policy.name, "imbalance.mean", mean), fixed(mean, 3),
          formatted("mean imbalance; the average rank waits {}", percent(waiting_share(mean)))};
}

/// The attributes of Answer::cut.
std::string cut_attributes(const Answer& answer) {
  return data_attributes(answer.best->name, "answer.cut", answer.cut) +
         formatted(R"( data-baseline="{}")", escape(answer.base->name));
}

Tile deploy_tile(const SimulateReport& report, const Answer& answer) {
  const PolicyReport& best = *answer.best;
  Tile tile = mean_tile(report, "Deploy this:", best);
  tile.note = best.cost ? "mean cost." : "mean imbalance.";
  if (answer.base != nullptr) {
    tile.attributes = cut_attributes(answer);
    tile.number = percent(answer.cut);
    tile.note = formatted("off the slowest rank’s {} against {}.", best.cost ? "cost" : "load",
                          escape(spoken(*answer.base)));
  }
  tile.note = formatted(
      "{} {} This command writes the placement for the time after the last batch:", tile.note,
      escape(price(report, best)));
  tile.more =
      formatted("<pre><code data-deploy>{}</code></pre>", words(deploy_command(report, best.name)));
  return tile;
}

std::string tiles_html(const SimulateReport& report, const Answer& answer) {
  const auto& [best, base, cut, effects] = answer;
  std::vector<Tile> tiles;
  if (base != nullptr) {
    tiles.push_back(mean_tile(report, best == nullptr ? "Here" : "Before", *base));
  }
  if (best != nullptr) tiles.push_back(mean_tile(report, "With LPLB", *best));
  // A policy that does not help is not offered.
  if (best != nullptr && (base == nullptr || (cut > 0 && differs(*base, *best)))) {
    tiles.push_back(deploy_tile(report, answer));
  }
  std::string out;
  for (const Tile& tile : tiles) {
    out += formatted(R"(<div class="tile{}"><h2>{} <span class="name">{}</span>{}</h2>)"
                     R"(<p class="number"{}>{}</p><p>{}</p>{}</div>
)",
                     tile.more.empty() ? "" : " wide", tile.label, escape(tile.policy.name),
                     synthetic_badge(report), tile.attributes, tile.number, tile.note, tile.more);
  }
  return out.empty() ? "" : "<div class=\"tiles\">\n" + out + "</div>\n";
}

std::string proof(const PolicyReport& policy) {
  if (policy.solves == 1 && policy.optimal == 1) {
    return formatted("Its one split is proven optimal; the solve took {} µs. ",
                     fixed(policy.solve_us.p50, 2));
  }
  const int decimals = policy.solves == policy.optimal ? 0 : 2;
  const double share = static_cast<double>(policy.optimal) / static_cast<double>(policy.solves);
  return formatted("{} of its {} are proven optimal; the median solve took {} µs. ",
                   percent(share, decimals), counted(policy.solves, "split"),
                   fixed(policy.solve_us.p50, 2));
}

/// What the figures mean if there is a cost model.
std::string cost_meaning(const SimulateReport& report, const Answer& answer) {
  std::string out = "<p class=\"lead\">";
  for (const PolicyReport* policy : {answer.base, answer.best}) {
    if (policy == nullptr || !policy->cost) continue;
    const std::string gap = std::isfinite(policy->cost->gap_mean)
                                ? formatted(", {} above the proven bound of its placement",
                                            percent(policy->cost->gap_mean, 2))
                                : "";
    out += formatted(
        "With <span class=\"name\">{}</span> the slowest rank of a layer costs {} on average{}. ",
        escape(policy->name), escape(mean_text(report, *policy)), gap);
  }
  if (answer.best != nullptr && answer.best->solves > 0) out += proof(*answer.best);
  return out + (makes_copies(report) && report.settings.copy_gigabytes_per_s > 0
                    ? "Costs are those of the cost model, which knows the experts’ work alone, and "
                      "the time of copying that nothing hides.</p>\n"
                    : "Costs are those of the cost model: it knows the experts’ work alone.</p>\n");
}

std::string meaning(const SimulateReport& report, const Answer& answer) {
  if (report.settings.cost) return cost_meaning(report, answer);
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
  if (answer.best != nullptr) {
    out += "With " + carries(*answer.best) + ". ";
    if (answer.best->solves > 0) out += proof(*answer.best);
  }
  return out + "Time is taken to be in proportion to tokens.</p>\n";
}

/// The sentence with its amount in bold.
std::string headline(const SimulateReport& report, const Answer& answer) {
  std::string text = escape(verdict(report, answer));
  if (answer.best == nullptr || answer.base == nullptr) return text;
  const std::string share =
      report.settings.cost && answer.cut > 0
          ? escape(cost_text(report, mean_of(*answer.base) - mean_of(*answer.best)))
          : percent(std::abs(answer.cut));
  if (const std::size_t at = text.find(share); at != std::string::npos) {
    text.replace(at, share.size(), formatted("<strong>{}</strong>", share));
  }
  return text;
}

}  // namespace

std::string answer_html(const SimulateReport& report) {
  const Answer answer = find_answer(report);
  const bool compares = answer.best != nullptr && answer.base != nullptr;
  const std::string slots = slots_text(report);
  std::string out = formatted(
      "<p class=\"question\">How much can a better balance take off the slowest of {}{}?</p>\n"
      "<h1{}>{}</h1>\n",
      counted(report.settings.num_ranks, "rank"),
      slots.empty() ? "" : formatted(", with {}", slots), compares ? cut_attributes(answer) : "",
      headline(report, answer));
  if (report.trace.synthetic) {
    out +=
        "<p class=\"notice\"><span class=\"badge\">synthetic</span> The loads were made by a "
        "formula, not recorded: no figure on this page comes from a real model.</p>\n";
  }
  for (const std::string& note : notes(report)) {
    out += formatted("<p class=\"notice\" data-note>{}</p>\n", escape(note));
  }
  return out + meaning(report, answer) + tiles_html(report, answer);
}

}  // namespace lplb::report
