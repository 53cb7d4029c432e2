// SPDX-License-Identifier: MIT
#include <numeric>

#include "simulate/policy/policy.h"

namespace lplb::replay {
namespace {

/// Puts expert e into slot e, without replicas: the placement of a system that does not balance.
class Contiguous : public PlacementPolicy {
 public:
  explicit Contiguous(const PlacementShape& shape) : num_logical_(shape.num_logical) {}

  std::vector<Index> place(std::span<const double>) const override {
    std::vector<Index> map(static_cast<std::size_t>(num_logical_));
    std::iota(map.begin(), map.end(), 0);
    return map;
  }

  bool adapts() const override { return false; }

 private:
  Index num_logical_;
};

}  // namespace

std::unique_ptr<PlacementPolicy> make_contiguous(const std::string&, const PlacementShape& shape) {
  return std::make_unique<Contiguous>(shape);
}

}  // namespace lplb::replay
