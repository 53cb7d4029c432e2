// SPDX-License-Identifier: MIT
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "lplb/simulate.h"

// How a policy looks. It looks the same in every report, whatever else was replayed: the placement
// gives the colour, and the split gives the dashes.
namespace lplb::report {

/// The policy's name without its split: "cube" of "cube+lplb".
std::string placement_of(std::string_view policy);

/// Whether the policy splits by cost, so that it cannot be replayed without a cost model.
bool splits_by_cost(std::string_view policy);

/// The CSS class of the policy's split: "unsplit" (no replicas), "even", "exact", "stale", "timed",
/// "copied" or "copied-timed".
std::string split_class(std::string_view policy);

/// The CSS classes of each policy, which are the same in every figure: its colour, "c0" to "c8";
/// its split_class(); and "p0", "p1" and so on, by which a script hides it. Placements of one
/// colour, such as ring:16 and ring:64, differ by the width of their lines: the second by name has
/// "v1", all further ones "v2".
std::vector<std::string> policy_classes(const SimulateReport& report);

/// A short piece of line, as the enclosing element's classes say.
std::string swatch();

/// What the dashes mean, for the splits that the report has.
std::string dash_key(const SimulateReport& report);

}  // namespace lplb::report
