// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "lplb/types.h"

// Computes the optimum of a split by slow and plain methods. It shares no code with src/ except the
// struct Placement, and reads only its map, speeds and live ranks.
namespace lplb::oracle {

/// The value tokens / speed(rank). It is kept as a fraction, so rounding never decides a
/// comparison.
struct Value {
  Load tokens = 0;
  Index rank = 0;
};

/// Returns -1, 0 or 1 if a is less than, equal to or greater than b. Exact. This and the functions
/// below throw std::range_error if tokens and speeds are so far apart that their products pass
/// 2^127.
int compare(const Placement& placement, Value a, Value b);

/// tokens / speed, rounded once.
double as_double(const Placement& placement, Value value);

/// The largest rank_load / speed. `rank_load` is [num_ranks].
Value value_of(const Placement& placement, std::span<const Load> rank_load);

/// The smallest T of any integer split. T is a fraction tokens / speed of some rank. For each rank
/// a binary search finds the smallest fraction at which a maximum flow (Dinic, 1970) from experts
/// to ranks takes every token. Loads must sum to at most 2^62 + 2^61.
Value optimum(const Placement& placement, std::span<const Load> load);

/// The same, by trying every integer split. Returns nullopt if there are more than `max_splits`
/// splits.
std::optional<Value> optimum_by_enumeration(const Placement& placement, std::span<const Load> load,
                                            std::int64_t max_splits = 200000);

/// Whether the set of ranks proves, by the definition, that no integer split stays below T: the sum
/// of (ceil(T * speed) - 1) over the live ranks of the set is less than the load of the experts
/// whose live replicas all lie in the set. T = 0 needs no proof. O(num_physical + num_ranks).
bool certifies(const Placement& placement, std::span<const Load> load, Value t,
               std::span<const Index> set);

}  // namespace lplb::oracle
