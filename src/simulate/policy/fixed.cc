// SPDX-License-Identifier: MIT
#include "core/format.h"
#include "io/files.h"
#include "simulate/policy/policy.h"

namespace lplb::replay {
namespace {

constexpr std::size_t kFilePrefix = 5;  // "file:"

/// The placement of a file, whatever the load is.
class Fixed : public PlacementPolicy {
 public:
  Fixed(const PlacementShape& shape, std::vector<Placement> layers)
      : PlacementPolicy(shape), layers_(std::move(layers)) {}

  Placement place(Index layer, const Past&) const override {
    return layers_[layers_.size() == 1 ? 0 : static_cast<std::size_t>(layer)];
  }

  bool adapts() const override { return false; }

 private:
  std::vector<Placement> layers_;  // one for all layers, or one for each
};

}  // namespace

std::unique_ptr<PlacementPolicy> make_fixed(const std::string& name, const PlacementShape& shape) {
  const std::string path = name.substr(kFilePrefix);
  std::vector<Index> numbers;
  std::vector<Placement> layers = io::read_placement(path, &numbers);
  if (layers[0].num_ranks != shape.num_ranks) {
    throw FileError(
        path, "key num_ranks",
        formatted("{}, expected the {} ranks of the replay", layers[0].num_ranks, shape.num_ranks));
  }
  if (layers[0].num_logical_experts != shape.num_logical) {
    throw FileError(path, "key num_logical_experts",
                    formatted("{}, expected the {} experts of the trace",
                              layers[0].num_logical_experts, shape.num_logical));
  }
  if (layers.size() == 1) return std::make_unique<Fixed>(shape, std::move(layers));
  const std::size_t num_layers = shape.layers.size();
  const bool numbered =
      !numbers.empty() || static_cast<std::size_t>(shape.layers.back()) != num_layers - 1;
  const std::vector<std::size_t> rows = io::rows_of_layers(
      numbers, layers.size(), numbered ? shape.layers : std::vector<Index>(), num_layers);
  if (rows.empty()) {
    const std::string trace = formatted("{} of the trace, numbered {} to {}", num_layers,
                                        shape.layers.front(), shape.layers.back());
    if (!numbers.empty()) {
      throw FileError(path, "key layers", formatted("does not have the {}", trace));
    }
    throw FileError(path, "key physical_to_logical",
                    formatted("has {} layers, expected 1, or the {}", layers.size(), trace));
  }
  std::vector<Placement> chosen;
  chosen.reserve(rows.size());
  for (const std::size_t row : rows) chosen.push_back(layers[row]);
  return std::make_unique<Fixed>(shape, std::move(chosen));
}

}  // namespace lplb::replay
