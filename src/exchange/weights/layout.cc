// SPDX-License-Identifier: MIT
#include "exchange/weights/kernels.h"

namespace lplb::exchange {
namespace {

constexpr std::int64_t kPiece = 16;  // what copies are multiples of

}  // namespace

WeightsLayout lay_out(const Placement& placement, Index num_layers, Index num_members,
                      const DeviceWeightLayout& tensors, const DeviceWeightOptions& options) {
  WeightsLayout l{};
  l.num_members = num_members;
  l.num_ranks = placement.num_ranks;
  l.num_layers = num_layers;
  l.main_slots = placement.slots_per_rank();
  l.dynamic_slots = options.dynamic_slots;
  l.num_sets = options.slot_sets == 0 ? num_layers : options.slot_sets;
  l.num_tensors = static_cast<std::int32_t>(tensors.tensor_bytes.size());
  l.num_gradients = static_cast<std::int32_t>(tensors.gradient_sizes.size());

  std::int64_t end = 0;
  const auto take = [&end](std::int64_t bytes) {
    const std::int64_t begin = end;
    end = ExchangeLayout::aligned(end + bytes);
    return begin;
  };
  take(std::int64_t{8} * num_members);  // the table of buffers
  l.control = take(sizeof(WeightControl));
  l.words = take(std::int64_t{2} * num_members * static_cast<std::int64_t>(sizeof(ExchangeWord)));
  l.versions = take(std::int64_t{8} * num_layers * l.main_slots);
  l.held = take(std::int64_t{l.num_sets} * l.dynamic_slots *
                static_cast<std::int64_t>(sizeof(HeldCopy)));
  l.plans = take(l.num_sets * l.plan_bytes());
  l.member_of = take(std::int64_t{4} * l.num_ranks);
  l.placements = take(std::int64_t{4} * num_layers * l.num_ranks * l.main_slots);
  const bool has_own_slots = l.num_sets == num_layers;
  for (std::int32_t t = 0; t < l.num_tensors; ++t) {
    TensorPlace& place = l.tensor[t];
    const auto bytes = static_cast<std::int64_t>(tensors.tensor_bytes[static_cast<std::size_t>(t)]);
    place.bytes = (bytes + kPiece - 1) / kPiece * kPiece;
    const std::int64_t main = place.bytes * l.main_slots;
    const std::int64_t dynamic = place.bytes * l.dynamic_slots;
    if (has_own_slots) {  // the dynamic slots of a layer follow its main slots
      place.main_step = place.dynamic_step = ExchangeLayout::aligned(main + dynamic);
      place.main = take(place.main_step * num_layers);
      place.dynamic = place.main + main;
    } else {
      place.main_step = ExchangeLayout::aligned(main);
      place.dynamic_step = ExchangeLayout::aligned(dynamic);
      place.main = take(place.main_step * num_layers);
      place.dynamic = take(place.dynamic_step * l.num_sets);
    }
  }
  const std::int64_t size = tensors.gradient_type == GradientType::kFloat32 ? 4 : 2;
  for (std::int32_t t = 0; t < l.num_gradients; ++t) {
    TensorPlace& place = l.gradient[t];
    place.bytes =
        size * static_cast<std::int64_t>(tensors.gradient_sizes[static_cast<std::size_t>(t)]);
    place.dynamic_step = ExchangeLayout::aligned(place.bytes * l.dynamic_slots);
    place.dynamic = take(place.dynamic_step * l.num_sets);
  }
  l.bytes = end;
  return l;
}

}  // namespace lplb::exchange
