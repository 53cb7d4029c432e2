// SPDX-License-Identifier: MIT
#include "simulate/report/answer.h"

#include <cmath>

#include "core/format.h"
#include "simulate/report/markup.h"

namespace lplb::report {
namespace {

const PolicyReport* find(const SimulateReport& report, const std::string& name) {
  for (const PolicyReport& policy : report.policies) {
    if (policy.name == name && std::isfinite(policy.imbalance.mean)) return &policy;
  }
  return nullptr;
}

/// The policy's name without its split.
std::string placement_of(const PolicyReport& policy) {
  for (const std::string_view split : {"+lplb", "+even", "+stale"}) {
    if (policy.name.ends_with(split)) {
      return policy.name.substr(0, policy.name.size() - split.size());
    }
  }
  return policy.name;
}

std::vector<Effect> effects_of(const SimulateReport& report, const PolicyReport& base,
                               const PolicyReport& best) {
  const std::string from = placement_of(base);
  const std::string to = placement_of(best);
  if (from == to) return {{Effect::kSplit, &base, &best}};
  if (const PolicyReport* via = find(report, from + "+lplb")) {
    return {{Effect::kSplit, &base, via}, {Effect::kPlacement, via, &best}};
  }
  const PolicyReport* via = find(report, to + "+even");
  if (via == nullptr) via = find(report, to);
  if (via == nullptr) return {};
  return {{Effect::kPlacement, &base, via}, {Effect::kSplit, via, &best}};
}

/// "12.1 % by the exact split"
std::string effect_text(const Effect& effect) {
  const double cut = cut_between(*effect.from, *effect.to);
  const std::string amount = !differs(*effect.from, *effect.to) ? "nothing"
                             : cut > 0                          ? percent(cut)
                                                                : percent(-cut) + " more load";
  return effect.kind == Effect::kSplit
             ? amount + " by the exact split"
             : formatted("{} by the placement ({})", amount, placement_of(*effect.to));
}

std::string effects_text(const std::vector<Effect>& effects) {
  if (effects.empty()) return "placement and split both change";
  if (effects.size() == 1) return "all of it by the exact split of the same placement";
  return formatted("{}, then {}", effect_text(effects[0]), effect_text(effects[1]));
}

std::string bytes_text(double bytes) {
  int unit = 0;
  constexpr const char* kUnits[] = {"bytes", "kB", "MB", "GB", "TB", "PB"};
  for (; bytes >= 999.95 && unit < 5; ++unit) bytes /= 1000;
  return formatted("{} {}", fixed(bytes, unit == 0 ? 0 : 1), kUnits[unit]);
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
    answer.cut = cut_between(*answer.base, *answer.best);
    answer.effects = effects_of(report, *answer.base, *answer.best);
  }
  return answer;
}

double cut_between(const PolicyReport& from, const PolicyReport& to) {
  return 1 - to.imbalance.mean / from.imbalance.mean;
}

bool differs(const PolicyReport& from, const PolicyReport& to) {
  const double cut = std::abs(cut_between(from, to));
  return percent(cut) != percent(0) && fixed(from.imbalance.mean, 3) != fixed(to.imbalance.mean, 3);
}

std::string spoken(const PolicyReport& policy) {
  if (policy.name == "eplb") return "EPLB";
  return policy.name == "none" ? "no replicas" : policy.name;
}

std::string verdict(const SimulateReport& report, const Answer& answer) {
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
  if (!differs(*answer.base, *answer.best)) {
    return formatted("LPLB does not help here: the slowest rank’s load is that of {}.", base);
  }
  if (answer.cut < 0) {
    return formatted("LPLB does not help here: the slowest rank’s load grows by {} against {}.",
                     percent(-answer.cut), base);
  }
  return formatted("LPLB cuts the slowest rank’s load by {} against {}: {}.", percent(answer.cut),
                   base, effects_text(answer.effects));
}

std::string price(const SimulateReport& report, const PolicyReport& policy) {
  if (policy.rebalances == 0) return "The placement stays as it is: no weights move.";
  const Index every = report.settings.rebalance_every;
  std::string text = formatted(
      "At each rebalance, {}, {} of the {} slots of a layer fetch an expert from another rank",
      every == 1 ? "after every batch" : formatted("every {}", counted(every, "batch")),
      fixed(policy.moved_experts_mean, 1), grouped(report.settings.num_replicas));
  if (report.settings.expert_bytes > 0) {
    text += formatted("; that is {} for {}", bytes_text(moved_bytes(report, policy)),
                      counted(report.trace.num_layers, "layer"));
  }
  return text + ".";
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
