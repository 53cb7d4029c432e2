// SPDX-License-Identifier: MIT
#include "placement/eplb_layer.h"

#include <algorithm>
#include <array>
#include <numeric>

#include "placement/introsort.h"

namespace lplb::placement {
namespace {

// The tag of a pack: its id in the upper bits, the number of its items in the lower ones. So a key
// names the next free slot.
constexpr int kCountBits = 16;
constexpr std::uint32_t kCountMask = (std::uint32_t{1} << kCountBits) - 1;
static_assert(kMaxPhysical <= kMaxKeys);
static_assert(kMaxPhysical < (1 << kCountBits));

// NOTE: all arithmetic is float32. With wider intermediate results, values that are equal in the
// reference would differ here, and the other way round.
float share(float weight, Index count) { return weight / static_cast<float>(count); }

// Four running sums of kLanes lanes. After every 16 rows they are added to other sums and start
// again at 0, so that all addends have similar magnitudes. (PyTorch does that a second time after
// 256 rows, which is more than an expert group can have.)
static_assert(kMaxPhysical < 256 * 4 * 8);
template <int kLanes>
float cascade_sum(const float* x, Index n) {
  constexpr Index kSums = 4;
  constexpr Index kRow = kSums * kLanes;
  constexpr Index kFoldedRows = 16;
  std::array<float, kRow> sum{};
  std::array<float, kRow> folded{};
  const Index num_rows = n / kRow;
  for (Index row = 0; row < num_rows; ++row) {
    for (Index c = 0; c < kRow; ++c) sum[c] += x[row * kRow + c];
    if ((row + 1) % kFoldedRows == 0) {
      for (Index c = 0; c < kRow; ++c) folded[c] += sum[c];
      sum.fill(0);
    }
  }
  for (Index c = 0; c < kRow; ++c) sum[c] += folded[c];

  Index next = num_rows * kRow;
  for (; next + kLanes <= n; next += kLanes) {
    for (Index c = 0; c < kLanes; ++c) sum[c] += x[next + c];
  }
  for (Index s = 1; s < kSums; ++s) {
    for (Index c = 0; c < kLanes; ++c) sum[c] += sum[s * kLanes + c];
  }
  float total = 0;
  for (; next < n; ++next) total += x[next];
  for (Index c = 0; c < kLanes; ++c) total += sum[c];
  return total;
}

}  // namespace

float float32_sum(const float* x, Index n) {
  return n < 8 ? cascade_sum<1>(x, n) : cascade_sum<8>(x, n);
}

void Packer::run(std::span<const float> weight, Index num_packs, std::span<Index> slot) {
  const auto n = weight.size();
  const auto capacity = static_cast<Index>(n) / num_packs;
  if (capacity == 1) {
    std::iota(slot.begin(), slot.end(), 0);
    return;
  }
  if (items_.size() < n) items_.resize(n);
  for (std::size_t i = 0; i < n; ++i) {
    items_[i] = falling_key(weight[i], static_cast<std::uint32_t>(i));
  }
  introsort(items_.data(), n);

  packs_.resize(static_cast<std::size_t>(num_packs));
  for (Index p = 0; p < num_packs; ++p) {
    packs_.set_leaf(static_cast<std::size_t>(p),
                    rising_key(0, static_cast<std::uint32_t>(p) << kCountBits));
  }
  packs_.build();
  for (std::size_t i = 0; i < n; ++i) {
    const std::uint32_t item = tag_of(items_[i]);
    const Key lightest = packs_.top();
    const std::uint32_t pack = tag_of(lightest) >> kCountBits;
    const auto position = static_cast<Index>(tag_of(lightest) & kCountMask);
    slot[item] = static_cast<Index>(pack) * capacity + position;
    packs_.replace(pack,
                   position + 1 == capacity
                       ? kNoKey
                       : rising_key(rising_value(lightest) + weight[item], tag_of(lightest) + 1));
  }
}

void Replicator::run(std::span<const float> weight, Index most, std::span<Index> logical,
                     std::span<Index> ordinal, std::span<Index> count) {
  const auto n = weight.size();
  std::iota(logical.begin(), logical.begin() + static_cast<std::ptrdiff_t>(n), 0);
  std::fill_n(ordinal.begin(), n, 0);
  std::fill(count.begin(), count.end(), 1);
  if (logical.size() == n) return;

  experts_.resize(n);
  for (std::size_t e = 0; e < n; ++e) {
    experts_.set_leaf(e, falling_key(weight[e], static_cast<std::uint32_t>(e)));
  }
  experts_.build();
  for (std::size_t p = n; p < logical.size(); ++p) {
    const std::uint32_t e = tag_of(experts_.top());
    logical[p] = static_cast<Index>(e);
    ordinal[p] = count[e]++;
    experts_.replace(e, count[e] < most ? falling_key(share(weight[e], count[e]), e) : kNoKey);
  }
}

LayerBalancer::LayerBalancer(const Shape& shape)
    : shape_(shape),
      weight_(shape.num_logical),
      group_weight_(shape.num_groups),
      group_slot_(shape.num_groups),
      expert_(shape.num_logical),
      node_weight_(shape.num_logical / shape.num_nodes),
      node_count_(shape.num_logical / shape.num_nodes),
      node_logical_(shape.num_physical / shape.num_nodes),
      node_ordinal_(shape.num_physical / shape.num_nodes),
      slot_(shape.num_physical / shape.num_nodes),
      replica_weight_(shape.num_physical / shape.num_nodes) {
  if (shape.speed.empty()) return;
  const Index ranks = shape.num_ranks / shape.num_nodes;
  for (auto first = shape.speed.begin(); first != shape.speed.end(); first += ranks) {
    node_speed_.push_back(std::accumulate(first, first + ranks, 0.0));
  }
}

void LayerBalancer::run(std::span<const double> load, std::span<Index> logical,
                        std::span<Index> ordinal, std::span<Index> count) {
  // Adding +0 turns -0 into +0, because a key must not hold -0. Loads beyond float32's range become
  // infinity.
  for (Index e = 0; e < shape_.num_logical; ++e) weight_[e] = static_cast<float>(load[e]) + 0.0F;
  order_by_group();
  for (Index node = 0; node < shape_.num_nodes; ++node) {
    balance_node(node, logical, ordinal, count);
  }
}

void LayerBalancer::order_by_group() {
  const Index group_size = shape_.num_logical / shape_.num_groups;
  for (Index g = 0; g < shape_.num_groups; ++g) {
    group_weight_[g] = float32_sum(&weight_[g * group_size], group_size);
  }
  if (node_speed_.empty()) {
    packer_.run(group_weight_, shape_.num_nodes, group_slot_);
  } else {
    std::vector<Index> group(group_slot_.size());
    std::iota(group.begin(), group.end(), 0);
    rank_packer_.run(group_weight_, group, node_speed_, false, group_slot_);
  }
  for (Index g = 0; g < shape_.num_groups; ++g) {
    const auto first = expert_.begin() + group_slot_[g] * group_size;
    std::iota(first, first + group_size, g * group_size);
  }
}

void LayerBalancer::balance_node(Index node, std::span<Index> logical, std::span<Index> ordinal,
                                 std::span<Index> count) {
  const auto num_experts = static_cast<Index>(node_weight_.size());
  const auto num_replicas = static_cast<Index>(slot_.size());
  const Index* const expert = &expert_[node * num_experts];
  for (Index e = 0; e < num_experts; ++e) node_weight_[e] = weight_[expert[e]];

  const Index ranks = shape_.num_ranks / shape_.num_nodes;
  replicator_.run(node_weight_, shape_.spread ? ranks : num_replicas, node_logical_, node_ordinal_,
                  node_count_);
  for (Index r = 0; r < num_replicas; ++r) {
    const Index e = node_logical_[r];
    replica_weight_[r] = share(node_weight_[e], node_count_[e]);
  }
  pack_node(node);

  const Index first = node * num_replicas;
  for (Index r = 0; r < num_replicas; ++r) {
    logical[first + slot_[r]] = expert[node_logical_[r]];
    ordinal[first + slot_[r]] = node_ordinal_[r];
  }
  for (Index e = 0; e < num_experts; ++e) count[expert[e]] = node_count_[e];
}

/// Packs the node's replicas onto its ranks. NOTE: with equal speeds the result of EPLB is kept if
/// it has no expert twice on a rank.
void LayerBalancer::pack_node(Index node) {
  const auto ranks = static_cast<std::size_t>(shape_.num_ranks / shape_.num_nodes);
  if (shape_.speed.empty()) {
    packer_.run(replica_weight_, static_cast<Index>(ranks), slot_);
    if (!shape_.spread || !repeats()) return;
  }
  const std::vector<double> equal(shape_.speed.empty() ? ranks : 0, 1.0);
  const std::span<const double> speed = shape_.speed.empty()
                                            ? std::span(equal)
                                            : std::span(shape_.speed).subspan(node * ranks, ranks);
  rank_packer_.run(replica_weight_, node_logical_, speed, shape_.spread, slot_);
}

/// Whether slot_ gives a rank two replicas of an expert.
bool LayerBalancer::repeats() const {
  const Index capacity = shape_.num_physical / shape_.num_ranks;
  std::vector<std::pair<Index, Index>> seen;  // (rank, expert)
  seen.reserve(slot_.size());
  for (std::size_t r = 0; r < slot_.size(); ++r) {
    seen.emplace_back(slot_[r] / capacity, node_logical_[r]);
  }
  std::sort(seen.begin(), seen.end());
  return std::adjacent_find(seen.begin(), seen.end()) != seen.end();
}

}  // namespace lplb::placement
