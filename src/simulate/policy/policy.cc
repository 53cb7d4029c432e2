// SPDX-License-Identifier: MIT
#include "simulate/policy/policy.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>

#include "core/check.h"
#include "core/format.h"
#include "lplb/replicate.h"

namespace lplb::replay {
namespace {

/// How a name of the registry stands for the placement's names.
enum class Named {
  kExactly,  ///< the name itself
  kPrefix,   ///< the name and what follows it: "file:PATH"
  kOther,    ///< every name that no other entry takes
};

/// A policy's name is the placement's name, then `ending`. "" is the ending of the split that the
/// placement is used with by itself.
struct Entry {
  Named named;
  std::string_view placement;
  std::string_view ending;
  SplitKind split;
  PlacementFactory factory;
};

constexpr std::string_view kFile = "file:";
constexpr std::string_view kDynamic = "+dynamic:";
constexpr std::string_view kByTime = ":time";

constexpr std::array kRegistry = {
    Entry{Named::kExactly, "none", "", SplitKind::kEven, make_contiguous},
    Entry{Named::kExactly, "none", "+time", SplitKind::kTime, make_contiguous},
    Entry{Named::kExactly, "eplb", "", SplitKind::kEven, make_eplb},
    Entry{Named::kExactly, "eplb", "+lplb", SplitKind::kExact, make_eplb},
    Entry{Named::kExactly, "eplb", "+stale", SplitKind::kStale, make_eplb},
    Entry{Named::kExactly, "eplb", "+time", SplitKind::kTime, make_eplb},
    Entry{Named::kExactly, "eplb-spread", "", SplitKind::kEven, make_eplb_spread},
    Entry{Named::kExactly, "eplb-spread", "+lplb", SplitKind::kExact, make_eplb_spread},
    Entry{Named::kExactly, "eplb-spread", "+stale", SplitKind::kStale, make_eplb_spread},
    Entry{Named::kExactly, "eplb-spread", "+time", SplitKind::kTime, make_eplb_spread},
    Entry{Named::kExactly, "eplb-keep", "", SplitKind::kEven, make_eplb_keep},
    Entry{Named::kExactly, "eplb-keep", "+lplb", SplitKind::kExact, make_eplb_keep},
    Entry{Named::kExactly, "eplb-keep", "+stale", SplitKind::kStale, make_eplb_keep},
    Entry{Named::kExactly, "eplb-keep", "+time", SplitKind::kTime, make_eplb_keep},
    Entry{Named::kExactly, "homes", "+even", SplitKind::kEven, make_homes},
    Entry{Named::kExactly, "homes", "+lplb", SplitKind::kExact, make_homes},
    Entry{Named::kExactly, "homes", "+stale", SplitKind::kStale, make_homes},
    Entry{Named::kExactly, "homes", "+time", SplitKind::kTime, make_homes},
    Entry{Named::kExactly, "moving-homes", "+even", SplitKind::kEven, make_homes},
    Entry{Named::kExactly, "moving-homes", "+lplb", SplitKind::kExact, make_homes},
    Entry{Named::kExactly, "moving-homes", "+stale", SplitKind::kStale, make_homes},
    Entry{Named::kExactly, "moving-homes", "+time", SplitKind::kTime, make_homes},
    // The split belongs to the placement's name, because a controller decides by it.
    Entry{Named::kExactly, "controller+even", "", SplitKind::kEven, make_controlled},
    Entry{Named::kExactly, "controller+lplb", "", SplitKind::kExact, make_controlled},
    Entry{Named::kExactly, "controller+time", "", SplitKind::kTime, make_controlled},
    Entry{Named::kPrefix, kFile, "+even", SplitKind::kEven, make_fixed},
    Entry{Named::kPrefix, kFile, "+lplb", SplitKind::kExact, make_fixed},
    Entry{Named::kPrefix, kFile, "+stale", SplitKind::kStale, make_fixed},
    Entry{Named::kPrefix, kFile, "+time", SplitKind::kTime, make_fixed},
    Entry{Named::kPrefix, kFile, "", SplitKind::kEven, make_fixed},
    Entry{Named::kOther, "TOPOLOGY", "+even", SplitKind::kEven, make_topology},
    Entry{Named::kOther, "TOPOLOGY", "+lplb", SplitKind::kExact, make_topology},
    Entry{Named::kOther, "TOPOLOGY", "+stale", SplitKind::kStale, make_topology},
    Entry{Named::kOther, "TOPOLOGY", "+time", SplitKind::kTime, make_topology},
};

bool is_known(std::string_view placement) {
  return std::any_of(kRegistry.begin(), kRegistry.end(), [&](const Entry& entry) {
    return entry.named == Named::kExactly && entry.placement == placement;
  });
}

/// The length of the placement's name if `entry` has the policy `name`, otherwise 0.
std::size_t length_of_placement(const Entry& entry, std::string_view name) {
  if (!name.ends_with(entry.ending)) return 0;
  const std::string_view placement = name.substr(0, name.size() - entry.ending.size());
  const bool is_file = placement.starts_with(kFile);
  switch (entry.named) {
    case Named::kExactly:
      return placement == entry.placement ? placement.size() : 0;
    case Named::kPrefix:
      return is_file && placement.size() > kFile.size() ? placement.size() : 0;
    default:
      return is_file || is_known(placement) ? 0 : placement.size();
  }
}

std::optional<PolicyName> find_policy(const std::string& name) {
  for (const Entry& entry : kRegistry) {
    const std::size_t length = length_of_placement(entry, name);
    if (length > 0) return PolicyName{name.substr(0, length), entry.split, entry.factory};
  }
  return std::nullopt;
}

/// Finds "PLACEMENT+dynamic:S" and "PLACEMENT+dynamic:S:time": each placement that has "+lplb", and
/// "none".
std::optional<PolicyName> find_dynamic(const std::string& name) {
  std::string_view text = name;
  const bool by_time = text.ends_with(kByTime);
  if (by_time) text.remove_suffix(kByTime.size());
  const std::size_t at = text.rfind(kDynamic);
  if (at == std::string_view::npos) return std::nullopt;
  const std::string_view slots = text.substr(at + kDynamic.size());
  Index number = 0;
  const auto [end, error] = std::from_chars(slots.data(), slots.data() + slots.size(), number);
  if (error != std::errc() || end != slots.data() + slots.size()) return std::nullopt;
  const std::string placement = name.substr(0, at);
  std::optional<PolicyName> found =
      find_policy(placement == "none" ? placement : placement + "+lplb");
  if (!found) return std::nullopt;
  check_argument(number >= 1 && number <= kMaxDynamicSlots, "policies",
                 "\"{}\" has {} dynamic slots, expected 1 to {}", name, number, kMaxDynamicSlots);
  found->split = by_time ? SplitKind::kDynamicByTime : SplitKind::kDynamic;
  found->dynamic_slots = number;
  found->placed_for_slots = found->factory == make_homes;
  return found;
}

std::string known_names() {
  std::string known;
  for (const Entry& entry : kRegistry) {
    known += formatted("{}\"{}{}{}\"", known.empty() ? "" : ", ", entry.placement,
                       entry.named == Named::kPrefix ? "PATH" : "", entry.ending);
  }
  return formatted(
      "{} (TOPOLOGY: cube, hypercube, torus:MxN, ring:N, r2o:FILE); \"none\", and in place of "
      "\"+lplb\", also with \"+dynamic:S\" and \"+dynamic:S:time\" (S: 1 to {})",
      known, kMaxDynamicSlots);
}

}  // namespace

std::string fitting_slots(Index num_logical, Index num_ranks) {
  const Index least = (num_logical + num_ranks - 1) / num_ranks * num_ranks;
  if (least > kMaxPhysical) return formatted("none of at most {} slots is", kMaxPhysical);
  if (least + num_ranks > kMaxPhysical) return formatted("{} would do", least);
  return formatted("{} or {} would do", least, least + num_ranks);
}

Placement PlacementPolicy::first(Index layer) const {
  const std::vector<double> load = uniform_load();
  return place(layer, {.load = load});
}

std::vector<double> PlacementPolicy::uniform_load() const {
  return std::vector<double>(static_cast<std::size_t>(shape_.num_logical), 1.0);
}

Placement PlacementPolicy::with_slots(std::span<const Index> physical_to_logical) const {
  return make_placement(shape_.num_ranks, shape_.num_logical, physical_to_logical,
                        {.num_nodes = shape_.num_nodes});
}

PolicyName parse_policy(const std::string& name) {
  std::optional<PolicyName> found = find_dynamic(name);
  if (!found) found = find_policy(name);
  if (found) return *found;
  throw ArgumentError("policies",
                      formatted("\"{}\" is unknown, expected some of {}", name, known_names()));
}

}  // namespace lplb::replay
