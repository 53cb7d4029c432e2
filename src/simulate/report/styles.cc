// SPDX-License-Identifier: MIT
#include "simulate/report/styles.h"

#include <algorithm>
#include <array>
#include <set>

#include "core/format.h"

namespace lplb::report {
namespace {

struct Split {
  std::string_view ending;
  const char* name;  ///< the CSS class
  const char* meaning;
};
constexpr std::array kSplits = {
    Split{"+lplb", "exact", "exact split"}, Split{"+time", "timed", "split by time"},
    Split{"+stale", "stale", "stale split"}, Split{"+even", "even", "even split"}};
constexpr Split kCopied{"+dynamic:", "copied", "copies for each batch"};
constexpr Split kCopiedByTime{":time", "copied-timed", "the same, split by time"};

/// Where the ending "+dynamic:S" or "+dynamic:S:time" begins, or npos.
std::size_t find_copied(std::string_view policy) {
  if (policy.ends_with(kCopiedByTime.ending)) policy.remove_suffix(kCopiedByTime.ending.size());
  const std::size_t at = policy.rfind(kCopied.ending);
  const std::size_t slots = at + kCopied.ending.size();
  const bool found = at != std::string_view::npos && slots < policy.size() &&
                     policy.find_first_not_of("0123456789", slots) == std::string_view::npos;
  return found ? at : std::string_view::npos;
}

constexpr const char* kNone = "none";

/// The colour of a placement: that of the first name that it begins with, so that "eplb-spread" is
/// before "eplb". Files, tables and unknown names share the last one.
int colour_of(std::string_view placement) {
  constexpr std::array<std::pair<std::string_view, int>, 8> kColours = {{{kNone, 0},
                                                                         {"eplb-spread", 7},
                                                                         {"eplb", 1},
                                                                         {"cube", 2},
                                                                         {"hypercube", 3},
                                                                         {"torus", 4},
                                                                         {"ring", 5},
                                                                         {"homes", 6}}};
  for (const auto& [begin, colour] : kColours) {
    if (placement.starts_with(begin)) return colour;
  }
  return 8;
}

}  // namespace

std::string placement_of(std::string_view policy) {
  const std::size_t copied = find_copied(policy);
  if (copied != std::string_view::npos) return std::string(policy.substr(0, copied));
  for (const Split& split : kSplits) {
    if (policy.ends_with(split.ending)) policy.remove_suffix(split.ending.size());
  }
  return std::string(policy);
}

bool splits_by_cost(std::string_view policy) {
  const std::string split = split_class(policy);
  return split == "timed" || split == kCopiedByTime.name;
}

std::string split_class(std::string_view policy) {
  if (policy == kNone) return "unsplit";
  if (find_copied(policy) != std::string_view::npos) {
    return policy.ends_with(kCopiedByTime.ending) ? kCopiedByTime.name : kCopied.name;
  }
  for (const Split& split : kSplits) {
    if (policy.ends_with(split.ending)) return split.name;
  }
  return "even";
}

std::vector<std::string> policy_classes(const SimulateReport& report) {
  std::array<std::set<std::string>, 9> placements;  // by colour
  for (const PolicyReport& policy : report.policies) {
    const std::string placement = placement_of(policy.name);
    placements[static_cast<std::size_t>(colour_of(placement))].insert(placement);
  }
  std::vector<std::string> classes;
  for (const PolicyReport& policy : report.policies) {
    const std::string placement = placement_of(policy.name);
    const int colour = colour_of(placement);
    const auto& alike = placements[static_cast<std::size_t>(colour)];
    const auto variant =
        std::min<std::ptrdiff_t>(2, std::distance(alike.begin(), alike.find(placement)));
    classes.push_back(formatted("c{} {}{} p{}", colour, split_class(policy.name),
                                variant > 0 ? formatted(" v{}", variant) : "", classes.size()));
  }
  return classes;
}

std::string swatch() {
  return R"(<svg class="swatch" width="30" height="12" aria-hidden="true">)"
         R"(<line class="line" x1="1" x2="29" y1="6" y2="6"/></svg>)";
}

std::string dash_key(const SimulateReport& report) {
  std::set<std::string> used;
  for (const PolicyReport& policy : report.policies) used.insert(split_class(policy.name));
  std::string out;
  const auto add = [&](const char* name, const char* meaning) {
    if (used.contains(name)) {
      out += formatted(R"(<li class="{}">{}{}</li>)", name, swatch(), meaning);
    }
  };
  for (const Split& split : kSplits) add(split.name, split.meaning);
  for (const Split& split : {kCopied, kCopiedByTime}) add(split.name, split.meaning);
  add("unsplit", "no replicas");
  return out.empty() ? "" : "<ul class=\"key\">" + out + "<li>colour: the placement</li></ul>\n";
}

}  // namespace lplb::report
