// SPDX-License-Identifier: MIT
#pragma once

#include "core/host_device.h"
#include "lplb/types.h"

// From fractional shares to whole tokens: scalar rules that both backends use.
namespace lplb::solvers {

/// Rounds the shares of one expert: `want` tokens over `count` places on the distinct ranks `rank`
/// [count]. `tokens` [count] (>= 0, with a sum of about want) becomes `take` [count], which sums to
/// exactly want. Each place gets its share rounded down. What is left goes, token by token, to the
/// rank with the most `room` [rank]: how many tokens it may still take, given all other experts. So
/// the rounding of one expert makes up for that of the experts before it. Updates room.
template <class Real>
LPLB_HOST_DEVICE inline void round_expert(Load want, Index count, const Real* tokens,
                                          const Index* rank, Real* room, Load* take) {
  Load left = want;
  for (Index i = 0; i < count; ++i) {
    // NOTE: the shares of huge loads are coarse. So a place never takes more than is left, and no
    // conversion leaves the range of Load.
    const Real share = tokens[i] > 0 ? tokens[i] : Real(0);
    take[i] = share >= static_cast<Real>(left) ? left : static_cast<Load>(share);
    left -= take[i];
  }
  if (left > count) {
    const Load each = left / count;
    for (Index i = 0; i < count; ++i) take[i] += each;
    left -= each * count;
  }
  for (Index i = 0; i < count; ++i) room[rank[i]] += tokens[i] - static_cast<Real>(take[i]);
  for (; left > 0; --left) {
    Index best = 0;
    for (Index i = 1; i < count; ++i) {
      if (room[rank[i]] > room[rank[best]]) best = i;
    }
    ++take[best];
    room[rank[best]] -= 1;
  }
}

}  // namespace lplb::solvers
