// SPDX-License-Identifier: MIT

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

Tile imbalance_tile(const char* label, const PolicyReport& policy) {
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
  Tile tile = imbalance_tile("Deploy this:", best);
  tile.note = "mean imbalance.";
  if (answer.base != nullptr) {
    tile.attributes = cut_attributes(answer);
    tile.number = percent(answer.cut);
    tile.note = formatted("off the slowest rank’s load against {}.", escape(spoken(*answer.base)));
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
  if (base != nullptr) tiles.push_back(imbalance_tile(best == nullptr ? "Here" : "Before", *base));
  if (best != nullptr) tiles.push_back(imbalance_tile("With LPLB", *best));
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
  const int decimals = policy.solves == policy.optimal ? 0 : 2;
  const double share = static_cast<double>(policy.optimal) / static_cast<double>(policy.solves);
  return formatted("{} of its {} are proven optimal; the median solve took {} µs. ",
                   percent(share, decimals), counted(policy.solves, "split"),
                   fixed(policy.solve_us.p50, 2));
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
  if (answer.best != nullptr) {
    out += "With " + carries(*answer.best) + ". ";
    if (answer.best->solves > 0) out += proof(*answer.best);
  }
  return out + "Time is taken to be in proportion to tokens.</p>\n";
}

/// The sentence with its first share in bold.
std::string headline(const SimulateReport& report, const Answer& answer) {
  std::string text = escape(verdict(report, answer));
  if (answer.best == nullptr || answer.base == nullptr) return text;
  const std::string share = percent(std::abs(answer.cut));
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
  return out + meaning(answer) + tiles_html(report, answer);
}

}  // namespace lplb::report
