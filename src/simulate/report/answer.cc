// SPDX-License-Identifier: MIT
#include "simulate/report/answer.h"

#include <cmath>

#include "core/format.h"
#include "io/text.h"
#include "simulate/report/markup.h"
#include "simulate/report/styles.h"

namespace lplb::report {
namespace {

const PolicyReport* find(const SimulateReport& report, const std::string& name) {
  for (const PolicyReport& policy : report.policies) {
    if (policy.name == name && std::isfinite(mean_of(policy))) return &policy;
  }
  return nullptr;
}

/// The ending of the policy's name that says how it splits, or "".
std::string split_of(const PolicyReport& policy) {
  return policy.name.substr(placement_of(policy.name).size());
}

std::vector<Effect> effects_of(const SimulateReport& report, const PolicyReport& base,
                               const PolicyReport& best) {
  const std::string from = placement_of(base.name);
  const std::string to = placement_of(best.name);
  if (from == to) return {{Effect::kSplit, &base, &best}};
  if (const PolicyReport* via = find(report, from + split_of(best))) {
    return {{Effect::kSplit, &base, via}, {Effect::kPlacement, via, &best}};
  }
  const PolicyReport* via = find(report, to + "+even");
  if (via == nullptr) via = find(report, to);
  if (via == nullptr) return {};
  return {{Effect::kPlacement, &base, via}, {Effect::kSplit, via, &best}};
}

std::string kind_of_split(const Effect& effect) {
  if (effect.to->copies) return "copies for each batch";
  return splits_by_cost(effect.to->name) ? "the split by cost" : "the exact split";
}

/// "12.1 % by the exact split"
std::string effect_text(const Effect& effect) {
  const double cut = cut_between(*effect.from, *effect.to);
  const std::string amount = !differs(*effect.from, *effect.to) ? "nothing"
                             : cut > 0
                                 ? percent(cut)
                                 : percent(-cut) + (effect.to->cost ? " more cost" : " more load");
  return effect.kind == Effect::kSplit
             ? formatted("{} by {}", amount, kind_of_split(effect))
             : formatted("{} by the placement ({})", amount, placement_of(effect.to->name));
}

std::string effects_text(const std::vector<Effect>& effects) {
  if (effects.empty()) return "placement and split both change";
  if (effects.size() == 1) {
    return formatted("all of it by {} of the same placement", kind_of_split(effects[0]));
  }
  return formatted("{}, then {}", effect_text(effects[0]), effect_text(effects[1]));
}

}  // namespace

Answer find_answer(const SimulateReport& report) {
  Answer answer;
  const PolicyReport* first_even = nullptr;
  const PolicyReport* cheapest = nullptr;
  const auto improve = [](const PolicyReport*& best, const PolicyReport& policy) {
    if (best == nullptr || mean_of(policy) < mean_of(*best)) best = &policy;
  };
  for (const PolicyReport& policy : report.policies) {
    if (!std::isfinite(mean_of(policy))) continue;
    improve(is_lplb(policy) ? answer.best : cheapest, policy);
    if (!is_lplb(policy) && first_even == nullptr) first_even = &policy;
  }
  answer.base = report.settings.cost ? cheapest : find(report, "eplb");
  if (answer.base == nullptr) answer.base = find(report, "none");
  if (answer.base == nullptr) answer.base = first_even;
  if (answer.best != nullptr && answer.base != nullptr) {
    answer.cut = cut_between(*answer.base, *answer.best);
    answer.effects = effects_of(report, *answer.base, *answer.best);
  }
  return answer;
}

double mean_of(const PolicyReport& policy) {
  return policy.cost ? policy.cost->max.mean : policy.imbalance.mean;
}

std::string cost_text(const SimulateReport& report, double cost) {
  const std::string unit = report.settings.cost ? report.settings.cost->unit() : "";
  return formatted("{}\u00A0{}", fixed(cost, 1), io::printable(unit));
}

std::string mean_text(const SimulateReport& report, const PolicyReport& policy) {
  return policy.cost ? cost_text(report, policy.cost->max.mean) : fixed(policy.imbalance.mean, 3);
}

double cut_between(const PolicyReport& from, const PolicyReport& to) {
  return 1 - mean_of(to) / mean_of(from);
}

bool differs(const PolicyReport& from, const PolicyReport& to) {
  const int decimals = from.cost ? 1 : 3;
  return percent(std::abs(cut_between(from, to))) != percent(0) &&
         fixed(mean_of(from), decimals) != fixed(mean_of(to), decimals);
}

std::string spoken(const PolicyReport& policy) {
  if (policy.name == "eplb") return "EPLB";
  return policy.name == "none" ? "no replicas" : policy.name;
}

std::string verdict(const SimulateReport& report, const Answer& answer) {
  if (report.policies.empty()) return "No policy was replayed.";
  const bool by_cost = report.settings.cost.has_value();
  const char* const leaves = by_cost ? "takes a mean of" : "leaves an imbalance of";
  if (answer.best == nullptr) {
    return answer.base == nullptr
               ? "No policy has a finite imbalance."
               : formatted("{} {} {}; no LPLB policy was replayed.", spoken(*answer.base), leaves,
                           mean_text(report, *answer.base));
  }
  if (answer.base == nullptr) {
    return formatted("LPLB {} {}; nothing was replayed to compare with.", leaves,
                     mean_text(report, *answer.best));
  }
  const std::string base = spoken(*answer.base);
  const char* const what = by_cost ? "cost" : "load";
  if (!differs(*answer.base, *answer.best)) {
    return formatted("LPLB does not help here: the slowest rank’s {} is that of {}.", what, base);
  }
  if (answer.cut < 0) {
    return formatted("LPLB does not help here: the slowest rank’s {} grows by {} against {}.", what,
                     percent(-answer.cut), base);
  }
  const std::string effects = effects_text(answer.effects);
  if (by_cost) {
    return formatted("LPLB saves {} a layer against {}, {} of the slowest rank’s cost: {}.",
                     cost_text(report, mean_of(*answer.base) - mean_of(*answer.best)), base,
                     percent(answer.cut), effects);
  }
  return formatted("LPLB cuts the slowest rank’s load by {} against {}: {}.", percent(answer.cut),
                   base, effects);
}

namespace {

/// What the copies of a policy are, as a sentence that begins with a blank.
std::string copies_text(const SimulateReport& report, const PolicyReport& policy) {
  if (!policy.copies) return "";
  const CopyReport& copies = *policy.copies;
  const std::string bytes =
      report.settings.expert_bytes > 0 ? formatted(", {}", bytes_text(copies.mean_bytes)) : "";
  return formatted(" For each batch and layer {} experts are copied{}.", fixed(copies.mean, 1),
                   bytes);
}

}  // namespace

std::string price(const SimulateReport& report, const PolicyReport& policy) {
  const std::string copied = copies_text(report, policy);
  if (policy.rebalances == 0) {
    return (copied.empty() ? "The placement stays as it is: no weights move."
                           : "The placement stays as it is.") +
           copied;
  }
  const Index every = report.settings.rebalance_every;
  const std::string when = !policy.decisions.empty() ? "when its controller decides so"
                           : every == 1              ? "after every batch"
                                        : formatted("every {}", counted(every, "batch"));
  std::string text = formatted(
      "At each rebalance, {}, {} of the {} slots of a layer fetch an expert from another rank",
      when, fixed(policy.moved_experts_mean, 1), grouped(report.settings.num_replicas));
  if (report.settings.expert_bytes > 0) {
    text += formatted("; that is {} for {}", bytes_text(moved_bytes(report, policy)),
                      counted(report.trace.num_layers, "layer"));
  }
  return text + "." + copied;
}

Index redundants_of(const SimulateReport& report) {
  const Index more = report.settings.num_replicas - report.trace.num_logical_experts;
  return more >= 0 && more % report.settings.num_ranks == 0 ? more / report.settings.num_ranks : -1;
}

double moved_bytes(const SimulateReport& report, const PolicyReport& policy) {
  return policy.moved_experts_mean * report.trace.num_layers *
         static_cast<double>(report.settings.expert_bytes);
}

double waiting_share(double imbalance) { return 1 - 1 / imbalance; }

}  // namespace lplb::report
