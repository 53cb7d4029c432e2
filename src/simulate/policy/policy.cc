// SPDX-License-Identifier: MIT
#include "simulate/policy/policy.h"

#include <array>

#include "core/check.h"
#include "core/format.h"

namespace lplb::replay {
namespace {

/// A policy's name is the placement's name, then `ending`. "" is the ending of the split that the
/// placement is used with by itself. An empty `placement` stands for every name that
/// parse_topology() takes.
struct Entry {
  std::string_view placement;
  std::string_view ending;
  SplitKind split;
  PlacementFactory factory;
};

constexpr std::array kRegistry = {
    Entry{"none", "", SplitKind::kEven, make_contiguous},
    Entry{"eplb", "", SplitKind::kEven, make_eplb},
    Entry{"eplb", "+lplb", SplitKind::kExact, make_eplb},
    Entry{"eplb", "+stale", SplitKind::kStale, make_eplb},
    Entry{"", "+even", SplitKind::kEven, make_topology},
    Entry{"", "+lplb", SplitKind::kExact, make_topology},
    Entry{"", "+stale", SplitKind::kStale, make_topology},
};

bool is_named(std::string_view placement) {
  for (const Entry& entry : kRegistry) {
    if (entry.placement == placement) return true;
  }
  return false;
}

std::string known_names() {
  std::string known;
  for (const Entry& entry : kRegistry) {
    known += formatted("{}\"{}{}\"", known.empty() ? "" : ", ",
                       entry.placement.empty() ? "TOPOLOGY" : entry.placement, entry.ending);
  }
  return known + " (TOPOLOGY: cube, hypercube, torus:MxN, ring:N, r2o:FILE)";
}

}  // namespace

PolicyName parse_policy(const std::string& name) {
  const std::size_t plus = std::min(name.rfind('+'), name.size());
  const std::string placement = name.substr(0, plus);
  const std::string ending = name.substr(plus);
  const std::string_view key = is_named(placement) ? std::string_view(placement) : "";
  for (const Entry& entry : kRegistry) {
    if (entry.placement != key || entry.ending != ending || placement.empty()) continue;
    return {placement, entry.split, entry.factory};
  }
  throw ArgumentError("policies",
                      formatted("\"{}\" is unknown, expected some of {}", name, known_names()));
}

}  // namespace lplb::replay
