// SPDX-License-Identifier: MIT
#pragma once

#include "map/rules.h"

namespace lplb::map {

/// Where the `number`-th token (from 0) of an expert on this rank goes. `segments`: the expert's;
/// the last one ends beyond `number`. O(segments before it): a rank sees few.
template <class Tokens>
LPLB_HOST_DEVICE inline Index find_physical(const BasicSegment<Tokens>* segments, Tokens number) {
  while (number >= segments->end) ++segments;
  return segments->physical;
}

}  // namespace lplb::map
