// SPDX-License-Identifier: MIT
#include "exchange/checks.h"

namespace lplb {

ExchangeStatus Exchange::all_gather(const PackedLayout& layout, std::span<const Load> mine,
                                    std::span<Load> all) {
  exchange::check_post(*this, layout, mine);
  exchange::check_collect(*this, layout.size(), all);  // before this rank takes part
  post(layout, mine);
  return collect(all);
}

}  // namespace lplb
