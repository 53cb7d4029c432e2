// SPDX-License-Identifier: MIT
#pragma once

#include <vector>

#include "lplb/types.h"
#include "solve/device/claim.h"

namespace lplb::solvers {

/// A placement as SlotView has it. Only for placements in which all ranks live.
class ClaimSlots {
 public:
  explicit ClaimSlots(const Placement& p) {
    view_ = {p.num_ranks, p.num_logical_experts,
             static_cast<int>(p.physical_to_logical.size()) / p.num_ranks, nullptr, nullptr};
    begin_.push_back(0);
    for (Index e = 0; e < p.num_logical_experts; ++e) {
      for (std::size_t i = 0; i < p.physical_to_logical.size(); ++i) {
        if (p.physical_to_logical[i] == e) slot_.push_back(static_cast<int>(i));
      }
      begin_.push_back(static_cast<int>(slot_.size()));
    }
  }

  const std::vector<int>& slot_begin() const { return begin_; }
  const std::vector<int>& slot() const { return slot_; }
  SlotView view() const { return view_at(begin_.data(), slot_.data()); }
  /// The same, with copies of slot_begin() and slot() at other addresses.
  SlotView view_at(const int* slot_begin, const int* slot) const {
    SlotView view = view_;
    view.slot_begin = slot_begin;
    view.slot = slot;
    return view;
  }

 private:
  SlotView view_{};
  std::vector<int> begin_, slot_;
};

}  // namespace lplb::solvers
