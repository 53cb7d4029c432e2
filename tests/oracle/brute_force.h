// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "lplb/types.h"

// What the best split is worth, by slow and plain methods. Shares no code with src/ beyond the
// struct Placement, and reads of that only the map, the speeds and the live ranks.
namespace lplb::oracle {

/// The value tokens / speed(rank), kept as a fraction: no rounding ever decides a comparison.
struct Value {
  Load tokens = 0;
  Index rank = 0;
};

/// -1, 0 or 1 as a is less than, equal to or greater than b. Exact. This and what follows throw
/// std::range_error where tokens and speeds are so far apart that their products pass 2^127.
int compare(const Placement& placement, Value a, Value b);

/// tokens / speed, rounded once.
double as_double(const Placement& placement, Value value);

/// The largest rank_load / speed: `rank_load` [num_ranks].
Value value_of(const Placement& placement, std::span<const Load> rank_load);

/// The least T that an integer split reaches: for each rank's fractions a binary search for the
/// least one at which a maximum flow (Dinic, 1970) from experts to ranks takes every token.
/// Loads must sum to at most 2^62 + 2^61.
Value optimum(const Placement& placement, std::span<const Load> load);

/// The same by trying every integer split; nothing where there are more than `max_splits`.
std::optional<Value> optimum_by_enumeration(const Placement& placement, std::span<const Load> load,
                                            std::int64_t max_splits = 200000);

/// Whether the set of ranks proves that no integer split stays below T, by the definition: the sum
/// over the set's live ranks of (ceil(T * speed) - 1) is less than the load of the experts whose
/// live replicas all lie in the set. T = 0 needs no proof. O(num_physical + num_ranks).
bool certifies(const Placement& placement, std::span<const Load> load, Value t,
               std::span<const Index> set);

}  // namespace lplb::oracle
