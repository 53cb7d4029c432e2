// SPDX-License-Identifier: MIT
#include "replicate/device/layout.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <span>

#include "replicate/between.h"
#include "replicate/device/args.h"

namespace lplb::replicas {
namespace {

int round_up(int bytes) { return (bytes + 15) / 16 * 16; }

int millionths(double target) { return static_cast<int>(std::llround(target * 1e6)); }

/// Writes the speeds of ranks, or of domains as ranks, from number `first` on.
void write_speeds(const std::vector<double>& speed, const std::vector<char>& alive, int first,
                  const GeneralLayout& layout, unsigned char* image) {
  auto* const to = reinterpret_cast<double*>(image + layout.speed) + first;
  auto* const exact = reinterpret_cast<ExactSpeed*>(image + layout.exact) + first;
  for (std::size_t i = 0; i < speed.size(); ++i) {
    to[i] = speed[i];
    exact[i] = ExactSpeed(speed[i]);
    if (alive[i] == 0) exact[i].mantissa = 0;
  }
}

bool are_equal(std::span<const double> speed) {
  return std::all_of(speed.begin(), speed.end(), [&](double its) { return its == speed[0]; });
}

CopyDomain describe_domain(const Placement& placement, Index first, Index count) {
  CopyDomain domain{};
  domain.fastest = -1;
  std::vector<char> met(static_cast<std::size_t>(placement.num_logical_experts), 0);
  for (Index g = first; g < first + count; ++g) {
    if (!placement.alive(g)) continue;
    ++domain.num_live;
    if (domain.fastest < 0 || placement.speed(g) > placement.speed(domain.fastest)) {
      domain.fastest = g;
    }
    const Index slots = placement.slots_per_rank();
    for (Index slot = g * slots; slot < (g + 1) * slots; ++slot) {
      char& has = met[placement.physical_to_logical[slot]];
      if (has != 0) domain.replicated = 1;
      has = 1;
    }
  }
  return domain;
}

/// What the image of the general form has in addition.
void write_general_image(const Placement& placement, const CopySizes& sizes,
                         const GeneralLayout& layout, unsigned char* image) {
  std::vector<double> speed;
  std::vector<char> alive;
  CopyGroup group{};
  group.fastest = group.slowest = -1;
  double live_speed = 0;
  for (Index g = 0; g < sizes.num_ranks; ++g) {
    speed.push_back(placement.speed(g));
    alive.push_back(placement.alive(g) ? 1 : 0);
    if (!placement.alive(g)) continue;
    live_speed += speed[g];
    if (group.fastest < 0 || speed[g] > speed[group.fastest]) group.fastest = g;
    if (group.slowest < 0 || speed[g] < speed[group.slowest]) group.slowest = g;
  }
  group.share_of_fastest = speed[group.fastest] / live_speed;
  group.is_uniform = are_equal(speed) ? 1 : 0;
  const PlacementOptions merged = domains_as_ranks(placement, sizes.num_domains);
  group.domains_are_uniform = are_equal(merged.rank_speed) ? 1 : 0;
  write_speeds(speed, alive, 0, layout, image);
  write_speeds(merged.rank_speed, merged.rank_alive, sizes.num_ranks, layout, image);
  std::memcpy(image + layout.group, &group, sizeof(group));

  const Index ranks = sizes.num_ranks / sizes.num_domains;
  for (Index d = 0; d < sizes.num_domains; ++d) {
    CopyDomain domain = describe_domain(placement, d * ranks, ranks);
    domain.is_uniform = are_equal(std::span(speed).subspan(static_cast<std::size_t>(d * ranks),
                                                           static_cast<std::size_t>(ranks)))
                            ? 1
                            : 0;
    std::memcpy(image + layout.domains + d * sizeof(domain), &domain, sizeof(domain));
  }
}

}  // namespace

CopyLayout lay_out_copies(const CopySizes& sizes, const CopyTables& tables, int most_bytes) {
  CopyLayout layout{};
  int next = 0;
  const auto take = [&next](int count, int size) {
    const int offset = next;
    next += round_up(count * size);
    return offset;
  };
  const int num_main = sizes.num_main();
  const int num_dynamic = sizes.num_dynamic();
  take(1, sizeof(CopyImageHeader));
  take(num_main, 2);
  layout.homes = take(sizes.num_logical, 2);
  GeneralLayout& general = layout.general;
  const int speeds = sizes.num_ranks + sizes.num_domains;
  if (sizes.is_general()) {
    general.group = take(1, sizeof(CopyGroup));
    general.domains = take(sizes.num_domains, sizeof(CopyDomain));
    general.speed = take(speeds, sizeof(double));
    general.exact = take(speeds, sizeof(ExactSpeed));
  }
  layout.image_bytes = next;
  if (sizes.is_general()) {
    general.part = take(sizes.num_logical, 4);
    general.between = take(num_main, 4);
    general.whole = take(num_main, 4);
    general.proof = take(sizes.num_ranks, 4);
    general.first_proof = take(sizes.num_ranks, 4);
    general.levels = take(sizes.num_ranks, sizeof(solvers::DeviceLevel));
    general.capacity = take(sizes.num_ranks, 4);
    general.other = take(sizes.most_places(), 4);
    general.share = take(sizes.most_places(), 4);
    general.order = take(sizes.most_places(), 2);
  }
  layout.want = take(sizes.num_logical, 4);
  layout.slot_tokens = take(num_main, 4);
  layout.plan_main = take(num_main, 4);
  for (int* array : {&layout.plan_dynamic, &layout.dynamic_expert, &layout.source}) {
    *array = take(num_dynamic, 4);
  }
  for (int* array : {&layout.rank_load, &layout.heaviest, &layout.heaviest_slot, &layout.sent,
                     &layout.order_of_rank}) {
    *array = take(sizes.num_ranks, 4);
  }
  layout.scalars = take(1, sizeof(CopyScalars));
  layout.results = take(kMostAttempts, sizeof(Attempt));
  layout.order_of_expert = take(sizes.num_logical, 4);
  layout.list_want = take(sizes.listed(sizes.num_ranks), 4);
  layout.list_order = take(sizes.listed(sizes.num_ranks), 4);

  layout.tables = next;
  const int with_tables = next + tables.bytes;
  const int attempt_bytes = round_up(4 * num_main) + round_up(2 * num_dynamic);
  layout.num_attempts = std::clamp((most_bytes - next) / attempt_bytes, 1, kMostAttempts);
  layout.left = take(layout.num_attempts, round_up(4 * num_main));
  layout.held = take(layout.num_attempts, round_up(2 * num_dynamic));
  layout.bytes = std::max(next, with_tables);
  return layout;
}

CopySizes copy_sizes(const Placement& placement, const ReplicateOptions& options) {
  const bool is_general = options.num_domains > 1 || !are_equal(placement.rank_speed);
  return {placement.num_ranks, placement.num_logical_experts, placement.slots_per_rank(),
          options.dynamic_slots, is_general ? options.num_domains : 0};
}

CopyArgs copy_args(const CopySizes& sizes, const ReplicateOptions& options,
                   const CopyTables& tables, int most_bytes) {
  CopyArgs args{.sizes = sizes,
                .layout = lay_out_copies(sizes, tables, most_bytes),
                .tables = tables,
                .image = nullptr,
                .load = nullptr,
                .out = {},
                .min_tokens = static_cast<int>(
                    std::min<Load>(options.min_tokens, std::numeric_limits<int>::max())),
                .target_millionths = millionths(options.target),
                .most_steps = solvers::device_steps(sizes.num_ranks, -1),
                .num_candidates = 0,
                .targets = {},
                .cost = options.cost,
                .exact_targets = {options.target}};
  if (options.cost.us_per_token == 0) return args;
  const auto add = [&args](double target) {
    args.exact_targets[args.num_candidates] = target;
    args.targets[args.num_candidates++] = millionths(target);
  };
  add(options.target);
  for (const double target : kTargets) {
    if (target > options.target) add(target);
  }
  return args;
}

void write_copy_image(const Placement& placement, const CopySizes& sizes, const CopyLayout& layout,
                      std::vector<unsigned char>& image) {
  image.assign(static_cast<std::size_t>(layout.image_bytes), 0);
  CopyImageHeader header{};
  header.speed = placement.speed(0);  // the general form has all of them
  std::vector<std::uint16_t> slot_expert(static_cast<std::size_t>(sizes.num_main()), kNoExpert);
  std::vector<std::uint16_t> home(static_cast<std::size_t>(sizes.num_logical), kNoExpert);
  for (Index g = 0; g < sizes.num_ranks; ++g) {
    if (!placement.alive(g)) continue;
    ++header.num_live;
    for (Index slot = g * sizes.main_slots; slot < (g + 1) * sizes.main_slots; ++slot) {
      const Index e = placement.physical_to_logical[slot];
      slot_expert[slot] = static_cast<std::uint16_t>(e);
      if (home[e] == kNoExpert) {
        home[e] = static_cast<std::uint16_t>(g);
      } else {
        header.replicated = 1;
      }
    }
  }
  header.per_part = 1 / (1e6 * header.num_live);
  std::memcpy(image.data(), &header, sizeof(header));
  std::memcpy(image.data() + sizeof(header), slot_expert.data(), 2 * slot_expert.size());
  std::memcpy(image.data() + layout.homes, home.data(), 2 * home.size());
  if (sizes.is_general()) write_general_image(placement, sizes, layout.general, image.data());
}

}  // namespace lplb::replicas
