// SPDX-License-Identifier: MIT
#pragma once

#include <span>

#include "solve/solvers.h"

// What follows the interior-point iterations, on either backend: a proof from the prices, whole
// tokens from the shares, and whether the two meet.
namespace lplb::solvers {

/// Takes, of the sets "the n ranks with the highest prices", the one that proves most, and sets
/// bound and in_proof. `price` [live ranks] may be any numbers: a set of ranks is a proof, however
/// it was chosen. With optimal prices, one of these sets proves the program's optimum
/// (docs/math.md). O(places + ranks log ranks).
void prove_by_prices(const Tables& tables, std::span<const double> price, Buffers& buffers);

/// Rounds `buffers.ipm.tokens` [num places] to take, expert by expert; sets take and rank_load.
void round_shares(const Tables& tables, Buffers& buffers);

/// Sets the status: kOptimal if no rank is above the bound, otherwise kBounded.
void settle_status(const Tables& tables, Buffers& buffers);

}  // namespace lplb::solvers
