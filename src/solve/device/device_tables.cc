// SPDX-License-Identifier: MIT
#include "solve/device/device_tables.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <span>

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
  std::int32_t add(const std::vector<T>& values) {
    return add(std::span<const T>(values));
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

constexpr std::array<std::uint32_t, kMostReciprocal + 1> kReciprocals = [] {
  std::array<std::uint32_t, kMostReciprocal + 1> table{};
  for (std::uint32_t n = 1; n <= kMostReciprocal; ++n) table[n] = UINT32_MAX / n;
  return table;
}();

std::uint16_t narrow(Index value) { return static_cast<std::uint16_t>(value); }

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

std::vector<std::uint16_t> list_owners(const Tables& t) {
  std::vector<std::uint16_t> owners;
  owners.reserve(t.incident.size());
  for (const Index place : t.incident) owners.push_back(narrow(t.place_owner[place]));
  return owners;
}

/// Where each colour begins. `most`: the most experts of one colour.
std::vector<std::uint16_t> list_colours(const Tables& t, std::int32_t* most) {
  std::vector<std::uint16_t> begin = {0};
  *most = 0;
  for (Index k = 0; k < t.num_replicated(); ++k) {
    if (k > 0 && t.colour[k] != t.colour[k - 1]) begin.push_back(narrow(k));
    *most = std::max<std::int32_t>(*most, k + 1 - begin.back());
  }
  if (t.num_replicated() > 0) begin.push_back(narrow(t.num_replicated()));
  return begin;
}

/// [K, words]: bit r of an expert's words is set if it has a place on rank r.
std::vector<std::uint32_t> list_rank_sets(const Tables& t, std::int32_t words) {
  std::vector<std::uint32_t> sets(t.expert.size() * static_cast<std::size_t>(words), 0);
  if (words == 0) return sets;
  for (std::size_t i = 0; i < t.place.size(); ++i) {
    sets[static_cast<std::size_t>(t.place_owner[i] * words + t.place[i].rank / 32)] |=
        std::uint32_t{1} << (t.place[i].rank % 32);
  }
  return sets;
}

std::vector<std::uint16_t> list_live_sets(const Tables& t) {
  std::vector<std::uint16_t> sets(t.expert.size(), 0);
  if (t.live_ranks.size() > kMaxCutRanks) return sets;
  std::vector<std::uint16_t> bit(static_cast<std::size_t>(t.num_ranks), 0);
  for (std::size_t i = 0; i < t.live_ranks.size(); ++i) {
    bit[t.live_ranks[i]] = static_cast<std::uint16_t>(1u << i);
  }
  for (std::size_t i = 0; i < t.place.size(); ++i) {
    std::uint16_t& set = sets[t.place_owner[i]];
    set = static_cast<std::uint16_t>(set | bit[t.place[i].rank]);
  }
  return sets;
}

std::vector<DeviceSlot> list_slots(const Tables& t) {
  std::vector<DeviceSlot> slots(static_cast<std::size_t>(t.num_physical), {kNoPlace, 0, 0, 0});
  for (Index e = 0; e < t.num_logical; ++e) {
    if (t.fixed_slot[e] >= 0) slots[t.fixed_slot[e]] = {kNoPlace, narrow(e), 0, 1};
  }
  const auto add = [&](const Tables::Place& place, std::uint16_t number) {
    for (Index i = 0; i < place.slot_count; ++i) {
      slots[t.slots[place.slot_begin + i]] = {number, narrow(place.expert), narrow(i),
                                              narrow(place.slot_count)};
    }
  };
  for (const Tables::Place& place : t.shared) add(place, kNoPlace);
  for (std::size_t i = 0; i < t.place.size(); ++i) add(t.place[i], static_cast<std::uint16_t>(i));
  return slots;
}

std::int32_t narrow_tokens(Load tokens) {
  return static_cast<std::int32_t>(std::min<Load>(tokens, INT32_MAX));
}

/// DeviceCosts::narrow_load. If c(n) <= a + b n on each curve, a split costs at most a for each
/// part and b for each token.
std::int32_t find_narrow_load(const Tables& t, const TimeModel& model) {
  Int128 rank = 0;
  Int128 b = 0;
  for (const CostCurve& c : model.distinct_curves()) {
    rank = std::max<Int128>(rank, c.rank);
    b = std::max<Int128>(b, (c.then_cost + c.then_every - 1) / c.then_every);
  }
  // The first token of a step is what needs the largest a.
  Int128 a = 0;
  for (const CostCurve& c : model.distinct_curves()) {
    Load before = 0;
    for (std::size_t i = 0; i < c.tokens.size(); ++i) {
      a = std::max(a, c.cost[i] - b * (before + 1));
      before = c.tokens[i];
    }
    a = std::max(a, Int128{c.cost.back()} + c.then_cost - b * (before + 1));
  }
  const auto parts = static_cast<Int128>(t.num_logical) + static_cast<Int128>(t.place.size());
  const Int128 left = kNarrowCost - 1 - rank - a * parts;
  if (left < 0) return -1;
  if (b == 0) return INT32_MAX;
  const Int128 load = left / (b * static_cast<Int128>(t.live_ranks.size()));
  return static_cast<std::int32_t>(std::min<Int128>(load, INT32_MAX));
}

/// Appends what a model adds; returns its offset.
std::int32_t add_costs(ImageWriter& writer, const Tables& t, const TimeModel& model) {
  std::vector<DeviceCurve> curves;
  std::vector<std::int32_t> step_tokens;
  std::vector<std::int64_t> step_cost;
  const auto add_curve = [&](const CostCurve& curve) {
    DeviceCurve& c = curves.emplace_back();
    c.rank = curve.rank;
    c.then_cost = curve.then_cost;
    c.then_every = narrow_tokens(curve.then_every);
    c.reciprocal = ~0u / static_cast<std::uint32_t>(c.then_every);
    c.begin = static_cast<std::int32_t>(step_tokens.size());
    for (std::size_t i = 0; i < curve.tokens.size(); ++i) {
      step_tokens.push_back(narrow_tokens(curve.tokens[i]));
      step_cost.push_back(curve.cost[i]);
      if (curve.tokens[i] >= INT32_MAX) break;
    }
    c.num_steps = static_cast<std::int32_t>(step_tokens.size()) - c.begin;
    c.last_tokens = step_tokens.back();
  };
  for (const CostCurve& curve : model.distinct_curves()) add_curve(curve);
  const auto least = static_cast<std::int32_t>(curves.size());
  if (model.uniform()) add_curve(model.least());
  std::vector<std::uint16_t> curve_of;
  curve_of.reserve(static_cast<std::size_t>(t.num_ranks));
  for (Index g = 0; g < t.num_ranks; ++g) curve_of.push_back(narrow(model.curve_index(g)));

  DeviceCosts costs{};
  const bool is_uniform = model.uniform() && t.cost.uniform();
  costs.one_step = is_uniform ? step_tokens[0] : -1;
  costs.least = model.uniform() ? least : -1;
  costs.narrow_load = find_narrow_load(t, model);
  costs.curve_of = writer.add(curve_of);
  costs.curves = writer.add(curves);
  costs.step_tokens = writer.add(step_tokens);
  costs.step_cost = writer.add(step_cost);
  return writer.add(std::span<const DeviceCosts>(&costs, 1));
}

}  // namespace

void DeviceImage::assign(const Tables& t, const TimeModel* model) {
  std::vector<std::uint16_t> part_of(static_cast<std::size_t>(t.num_ranks), kNoPlace);
  std::vector<std::uint16_t> part_size;
  for (Index part = 0; part < t.num_parts(); ++part) {
    part_size.push_back(narrow(static_cast<Index>(t.part(part).size())));
    for (const Index g : t.part(part)) part_of[g] = narrow(part);
  }
  std::vector<std::uint16_t> place_rank;
  place_rank.reserve(t.place.size());
  for (const Tables::Place& place : t.place) place_rank.push_back(narrow(place.rank));

  ImageWriter writer(bytes);
  DeviceTablesHeader header{};
  const std::vector<std::uint16_t> colours = list_colours(t, &header.most_experts);
  for (Index k = 0; k < t.num_replicated(); ++k) {
    header.most_places = std::max(header.most_places, t.place_begin[k + 1] - t.place_begin[k]);
  }
  header.num_ranks = t.num_ranks;
  header.num_logical = t.num_logical;
  header.num_physical = t.num_physical;
  header.num_replicated = t.num_replicated();
  header.num_places = static_cast<std::int32_t>(t.place.size());
  header.num_colours = static_cast<std::int32_t>(colours.size()) - 1;
  header.num_parts = t.num_parts();
  header.num_live = static_cast<std::int32_t>(t.live_ranks.size());
  header.mask_words = mask_words(t.num_ranks);
  header.experts = writer.add(list_experts(t));
  header.colour_begin = writer.add(colours);
  header.place_begin = writer.add(narrow_all(t.place_begin));
  header.place_rank = writer.add(place_rank);
  header.incident_begin = writer.add(narrow_all(t.incident_begin));
  header.incident = writer.add(narrow_all(t.incident));
  header.incident_owner = writer.add(list_owners(t));
  header.part_of = writer.add(part_of);
  header.part_size = writer.add(part_size);
  header.live_rank = writer.add(narrow_all(t.live_ranks));
  header.expert_ranks = writer.add(list_rank_sets(t, header.mask_words));
  header.live_set = writer.add(list_live_sets(t));
  header.reciprocal =
      writer.add(std::span<const std::uint32_t>(kReciprocals)
                     .first(static_cast<std::size_t>(
                         std::clamp<Index>(t.num_ranks, kMaxCutRanks, kMostReciprocal) + 1)));
  if (model != nullptr) header.costs = add_costs(writer, t, *model);
  header.solver_bytes = writer.size();
  header.slots = writer.add(list_slots(t));
  header.bytes = writer.size();
  std::memcpy(bytes.data(), &header, sizeof(header));
}

std::size_t max_cost_bytes(Index num_ranks, const CostModel& model) {
  const auto ranks = static_cast<std::size_t>(num_ranks);
  const bool is_one = model.tables().size() == 1;
  std::size_t steps = 0;
  std::size_t most_steps = 0;
  for (const CostTable& table : model.tables()) {
    steps += table.tokens.size();
    most_steps = std::max(most_steps, table.tokens.size());
  }
  steps += most_steps + kLeastSteps;
  constexpr std::size_t kArrays = 5;
  return sizeof(DeviceCosts) + ranks * sizeof(std::uint16_t) +
         (is_one ? 2 : ranks + 1) * sizeof(DeviceCurve) +
         steps * (sizeof(std::int32_t) + sizeof(std::int64_t)) + kArrays * 16;
}

std::size_t max_image_bytes(Index num_ranks, Index num_logical, Index num_physical) {
  // D slots beyond the first one of each expert make at most D replicated experts with 2 D places.
  const auto most = static_cast<std::size_t>(num_physical - num_logical);
  const auto ranks = static_cast<std::size_t>(num_ranks);
  const std::size_t ids = 3 * most + 2 + (ranks + 1) + 3 * 2 * most + 3 * ranks;
  constexpr std::size_t kArrays = 15;
  return sizeof(DeviceTablesHeader) + ids * sizeof(std::uint16_t) +
         4 * most * sizeof(std::uint32_t) + sizeof(kReciprocals) +
         static_cast<std::size_t>(num_logical) * sizeof(DeviceExpert) +
         static_cast<std::size_t>(num_physical) * sizeof(DeviceSlot) + kArrays * 16;
}

}  // namespace lplb::solvers
