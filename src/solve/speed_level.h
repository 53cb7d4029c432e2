// SPDX-License-Identifier: MIT
#pragma once

#include "core/host_device.h"
#include "lplb/types.h"

// The rule by which one expert's tokens are divided over ranks of unequal speeds, which the CPU and
// the device share: its doubles must be the same. level.h says what it does.
namespace lplb::solvers {

/// Whether rank i comes before rank j in the order of level_in_order(): the lower level first.
/// `other` [k], `speed` [k]: anything that can be indexed.
template <class Others, class Speeds>
LPLB_HOST_DEVICE inline bool is_lower(const Others& other, const Speeds& speed, Index i, Index j) {
  const double a = static_cast<double>(other[i]) / speed[i];
  const double b = static_cast<double>(other[j]) / speed[j];
  return a != b ? a < b : i < j;
}

/// level_speeds() for ranks whose order is known: `order` [k] has them by is_lower().
template <class Tokens, class Speeds, class Order>
LPLB_HOST_DEVICE inline void level_in_order(Load w, Index k, const Tokens* other,
                                            const Speeds& speed, const Order* order, Tokens* x) {
  double filled = static_cast<double>(w) + static_cast<double>(other[order[0]]);
  double joint_speed = speed[order[0]];
  Index count = 1;
  for (; count < k; ++count) {
    const Index g = order[count];
    if (static_cast<double>(other[g]) / speed[g] >= filled / joint_speed) break;
    filled += static_cast<double>(other[g]);
    joint_speed += speed[g];
  }
  const double level = filled / joint_speed;
  Load left = w;
  for (Index i = 0; i < k; ++i) x[i] = 0;
  for (Index i = 0; i < count; ++i) {
    const Index g = order[i];
    const double room = level * speed[g] - static_cast<double>(other[g]);
    // NOTE: `left` as a double may round up past it: compare before converting.
    const Load tokens = room <= 0                           ? 0
                        : room >= static_cast<double>(left) ? left
                                                            : static_cast<Load>(room);
    x[g] = static_cast<Tokens>(tokens);
    left -= tokens;
  }
  // Rounding left a few tokens over. Deal them in order.
  for (Index i = 0; left > 0; ++i) {
    const Load share = (left + count - i - 1) / (count - i);
    x[order[i]] += static_cast<Tokens>(share);
    left -= share;
  }
}

}  // namespace lplb::solvers
