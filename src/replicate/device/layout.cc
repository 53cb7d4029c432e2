// SPDX-License-Identifier: MIT
#include "replicate/device/layout.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "replicate/device/args.h"

namespace lplb::replicas {
namespace {

int round_up(int bytes) { return (bytes + 15) / 16 * 16; }

int millionths(double target) { return static_cast<int>(std::llround(target * 1e6)); }

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
  layout.image_bytes = next;
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

CopyArgs copy_args(const Placement& placement, const ReplicateOptions& options,
                   const CopyTables& tables, int most_bytes) {
  const CopySizes sizes = copy_sizes(placement, options.dynamic_slots);
  CopyArgs args{.sizes = sizes,
                .layout = lay_out_copies(sizes, tables, most_bytes),
                .tables = tables,
                .image = nullptr,
                .load = nullptr,
                .out = {},
                .min_tokens = static_cast<int>(
                    std::min<Load>(options.min_tokens, std::numeric_limits<int>::max())),
                .target_millionths = millionths(options.target),
                .most_steps = solvers::device_steps(placement.num_ranks, -1),
                .num_candidates = 0,
                .targets = {},
                .cost = options.cost};
  if (options.cost.us_per_token == 0) return args;
  args.targets[args.num_candidates++] = args.target_millionths;
  for (const double target : kTargets) {
    if (target > options.target) args.targets[args.num_candidates++] = millionths(target);
  }
  return args;
}

void write_copy_image(const Placement& placement, const CopySizes& sizes, const CopyLayout& layout,
                      std::vector<unsigned char>& image) {
  image.assign(static_cast<std::size_t>(layout.image_bytes), 0);
  CopyImageHeader header{};
  header.speed = placement.speed(0);
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
}

}  // namespace lplb::replicas
