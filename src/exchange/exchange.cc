// SPDX-License-Identifier: MIT
#include "exchange/check_gather.h"

namespace lplb {

ExchangeStatus Exchange::all_gather(const PackedLayout& layout, std::span<const Load> mine,
                                    std::span<Load> all) {
  check_post(*this, layout, mine);
  check_collect(*this, layout.size(), all);  // before this rank takes part
  post(layout, mine);
  return collect(all);
}

}  // namespace lplb
