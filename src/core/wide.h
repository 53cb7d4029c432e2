// SPDX-License-Identifier: MIT
#pragma once

namespace lplb {

// For sums of loads, and products of loads and mantissas, that 64 bits cannot hold.
__extension__ typedef __int128 Int128;
__extension__ typedef unsigned __int128 Uint128;

}  // namespace lplb
