// SPDX-License-Identifier: MIT
#include "solve/device_tables.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <numeric>

namespace lplb::solvers {
namespace {

using Tables = SplitProblem::Tables;

/// Appends arrays to an image, each at a multiple of 16 bytes.
class ImageWriter {
 public:
  explicit ImageWriter(std::vector<unsigned char>& bytes) : bytes_(bytes) {
    bytes_.assign(sizeof(DeviceTablesHeader), 0);
  }

  std::int32_t size() {
    bytes_.resize((bytes_.size() + 15) / 16 * 16, 0);
    return static_cast<std::int32_t>(bytes_.size());
  }

  template <class T>
  std::int32_t add(std::span<const T> values) {
    const std::int32_t offset = size();
    const auto* first = reinterpret_cast<const unsigned char*>(values.data());
    bytes_.insert(bytes_.end(), first, first + values.size_bytes());
    return offset;
  }

 private:
  std::vector<unsigned char>& bytes_;
};

constexpr std::array<std::uint32_t, kLanes + 1> kReciprocals = [] {
  std::array<std::uint32_t, kLanes + 1> table{};
  for (std::uint64_t n = 2; n <= kLanes; ++n) {
    table[n] = static_cast<std::uint32_t>((std::uint64_t{1} << 32) / n);
  }
  return table;
}();

std::uint16_t narrow(Index value) { return static_cast<std::uint16_t>(value); }

/// Deals the experts of one colour, widest first, out to tiles: powers of two leave no gap but at
/// the colour's end.
class LaneLayout {
 public:
  LaneLayout(const Tables& tables, std::vector<Index>& lane_of_place)
      : t_(tables), lane_of_place_(lane_of_place) {
    lane_of_place_.assign(t_.place.size(), -1);
    colour_begin.push_back(0);
    for (Index k = 0; k < t_.num_replicated();) {
      Index end = k;
      while (end < t_.num_replicated() && t_.colour[end] == t_.colour[k]) ++end;
      add_colour(k, end);
      k = end;
    }
  }

  std::vector<DeviceLane> lanes;
  std::vector<DeviceTile> tiles;
  std::vector<std::uint16_t> colour_begin;

 private:
  Index count_of(Index k) const { return t_.place_begin[k + 1] - t_.place_begin[k]; }

  void add_colour(Index begin, Index end) {
    order_.resize(static_cast<std::size_t>(end - begin));
    std::iota(order_.begin(), order_.end(), begin);
    std::sort(order_.begin(), order_.end(), [this](Index a, Index b) {
      return count_of(a) != count_of(b) ? count_of(a) > count_of(b) : a < b;
    });
    std::size_t used = kLanes;  // of the last tile
    for (const Index k : order_) {
      const auto count = static_cast<std::size_t>(count_of(k));
      const std::size_t width = std::min<std::size_t>(kLanes, std::bit_ceil(count));
      const std::size_t span = (count + kLanes - 1) / kLanes;
      if (used + width > kLanes) {
        add_tiles(width, span);
        used = 0;
      }
      place_expert(k, lanes.size() - span * kLanes + used, span == 1 ? width : span * kLanes);
      used += width;
    }
    colour_begin.push_back(narrow(static_cast<Index>(tiles.size())));
  }

  void add_tiles(std::size_t width, std::size_t span) {
    for (std::size_t i = 0; i < span; ++i) {
      tiles.push_back(
          {static_cast<std::uint16_t>(width), static_cast<std::uint16_t>(i == 0 ? span : 0)});
    }
    lanes.resize(lanes.size() + span * kLanes, {0, 0, kNoLane, 0});
  }

  void place_expert(Index k, std::size_t first_lane, std::size_t width) {
    for (Index i = 0; i < count_of(k); ++i) {
      const Index place = t_.place_begin[k] + i;
      const std::size_t lane = first_lane + static_cast<std::size_t>(i);
      lanes[lane] = {narrow(t_.place[place].rank), narrow(k), narrow(i), narrow(count_of(k))};
      lane_of_place_[place] = static_cast<Index>(lane);
    }
    for (std::size_t i = static_cast<std::size_t>(count_of(k)); i < width; ++i) {
      lanes[first_lane + i] = {0, narrow(k), kNoLane, narrow(count_of(k))};
    }
  }

  const Tables& t_;
  std::vector<Index>& lane_of_place_;
  std::vector<Index> order_;
};

std::vector<std::uint16_t> narrow_all(std::span<const Index> values) {
  std::vector<std::uint16_t> out;
  out.reserve(values.size());
  for (const Index value : values) out.push_back(narrow(value));
  return out;
}

std::vector<DeviceExpert> list_experts(const Tables& t) {
  std::vector<DeviceExpert> experts;
  experts.reserve(static_cast<std::size_t>(t.num_logical));
  for (const Index rank : t.fixed_rank) {
    experts.push_back({static_cast<std::uint16_t>(rank >= 0), narrow(std::max<Index>(rank, 0))});
  }
  for (Index k = 0; k < t.num_replicated(); ++k) experts[t.expert[k]].index = narrow(k);
  return experts;
}

std::vector<DeviceSlot> list_slots(const Tables& t, std::span<const Index> lane_of_place) {
  std::vector<DeviceSlot> slots(static_cast<std::size_t>(t.num_physical), {kNoLane, 0, 0, 0});
  for (Index e = 0; e < t.num_logical; ++e) {
    if (t.fixed_slot[e] >= 0) slots[t.fixed_slot[e]] = {kNoLane, narrow(e), 0, 1};
  }
  const auto add = [&](const Tables::Place& place, std::uint16_t lane) {
    for (Index i = 0; i < place.slot_count; ++i) {
      slots[t.slots[place.slot_begin + i]] = {lane, narrow(place.expert), narrow(i),
                                              narrow(place.slot_count)};
    }
  };
  for (const Tables::Place& place : t.shared) add(place, kNoLane);
  for (std::size_t i = 0; i < t.place.size(); ++i) add(t.place[i], narrow(lane_of_place[i]));
  return slots;
}

}  // namespace

void DeviceImage::assign(const Tables& t) {
  const LaneLayout layout(t, lane_of_place);
  std::vector<std::uint16_t> part_of(static_cast<std::size_t>(t.num_ranks), kNoLane);
  std::vector<std::uint16_t> part_size;
  for (Index part = 0; part < t.num_parts(); ++part) {
    part_size.push_back(narrow(static_cast<Index>(t.part(part).size())));
    for (const Index g : t.part(part)) part_of[g] = narrow(part);
  }
  std::vector<std::uint16_t> incident;
  incident.reserve(t.incident.size());
  for (const Index place : t.incident) incident.push_back(narrow(lane_of_place[place]));

  ImageWriter writer(bytes);
  DeviceTablesHeader header{};
  header.num_ranks = t.num_ranks;
  header.num_logical = t.num_logical;
  header.num_physical = t.num_physical;
  header.num_replicated = t.num_replicated();
  header.num_colours = static_cast<std::int32_t>(layout.colour_begin.size()) - 1;
  header.num_tiles = static_cast<std::int32_t>(layout.tiles.size());
  header.num_parts = t.num_parts();
  header.num_live = static_cast<std::int32_t>(t.live_ranks.size());
  header.experts = writer.add(std::span<const DeviceExpert>(list_experts(t)));
  header.lanes = writer.add(std::span<const DeviceLane>(layout.lanes));
  header.tiles = writer.add(std::span<const DeviceTile>(layout.tiles));
  header.colour_begin = writer.add(std::span<const std::uint16_t>(layout.colour_begin));
  header.incident_begin = writer.add(std::span<const std::uint16_t>(narrow_all(t.incident_begin)));
  header.incident = writer.add(std::span<const std::uint16_t>(incident));
  header.part_of = writer.add(std::span<const std::uint16_t>(part_of));
  header.part_size = writer.add(std::span<const std::uint16_t>(part_size));
  header.live_rank = writer.add(std::span<const std::uint16_t>(narrow_all(t.live_ranks)));
  header.reciprocal = writer.add(std::span<const std::uint32_t>(kReciprocals));
  header.solver_bytes = writer.size();
  header.slots = writer.add(std::span<const DeviceSlot>(list_slots(t, lane_of_place)));
  header.bytes = writer.size();
  header.most_tiles = 1;
  for (std::size_t c = 1; c < layout.colour_begin.size(); ++c) {
    header.most_tiles = std::max<std::int32_t>(header.most_tiles,
                                               layout.colour_begin[c] - layout.colour_begin[c - 1]);
  }
  header.most_span = 1;
  for (const DeviceTile& tile : layout.tiles) {
    header.most_span = std::max<std::int32_t>(header.most_span, tile.span);
  }
  std::memcpy(bytes.data(), &header, sizeof(header));
}

std::size_t max_image_bytes(Index num_ranks, Index num_logical, Index num_physical) {
  // D slots beyond the first of each expert make at most D replicated experts of 2 D places, hence
  // 4 D lanes with what pads the groups, and a colour is one more tile at most.
  const auto redundants = static_cast<std::size_t>(num_physical - num_logical);
  const std::size_t tiles = redundants + (4 * redundants + kLanes - 1) / kLanes;
  const auto ranks = static_cast<std::size_t>(num_ranks);
  const std::size_t ids = (redundants + 1) + (ranks + 1) + 2 * redundants + 3 * ranks;
  return sizeof(DeviceTablesHeader) + tiles * (kLanes * sizeof(DeviceLane) + sizeof(DeviceTile)) +
         ids * sizeof(std::uint16_t) +
         static_cast<std::size_t>(num_logical) * sizeof(DeviceExpert) +
         static_cast<std::size_t>(num_physical) * sizeof(DeviceSlot) + sizeof(kReciprocals) +
         std::size_t{13} * 16;
}

}  // namespace lplb::solvers
