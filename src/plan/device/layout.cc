// SPDX-License-Identifier: MIT
#include "plan/device/layout.h"

#include <algorithm>
#include <limits>

#include "core/slices.h"
#include "solve/device/forms.h"

namespace lplb::plan {
namespace {

/// Slices of int32 ids for which a warp needs entry slots, to hold its whole stretch even if ids
/// are int64.
std::int64_t slices_to_hold(std::int64_t max_entries, int max_blocks) {
  const int slices = device::slices_per_warp(static_cast<int>(max_entries), max_blocks * kWarps);
  return 2 * device::div_up(std::max(slices, 1), kChunk) * kChunk;
}

/// The sizes of the largest placement within the limits.
solvers::DeviceTablesHeader worst_tables(const Limits& limits) {
  solvers::DeviceTablesHeader worst{};  // num_live stays 0: counts what only the cut solver needs
  worst.num_ranks = limits.num_ranks;
  worst.num_replicated = limits.max_replicated();
  worst.num_places = limits.max_replicas();
  worst.mask_words = solvers::mask_words(limits.num_ranks);
  return worst;
}

}  // namespace

Layout lay_out(const Limits& limits, std::int64_t max_entries, int max_blocks,
               std::int64_t most_bytes, int copy_bytes) {
  const auto replicated = static_cast<std::int64_t>(limits.max_replicated());
  const auto columns = static_cast<std::int64_t>(limits.max_columns());
  const auto replicas = static_cast<std::int64_t>(limits.max_replicas());
  std::int64_t size = 0;
  const auto add = [&size](std::int64_t bytes) {
    const std::int64_t offset = size;
    size += (bytes + 15) / 16 * 16;
    return static_cast<std::int32_t>(offset);
  };
  const auto ints = [](std::int64_t count) {
    return count * static_cast<std::int64_t>(sizeof(int));
  };
  Layout layout{};
  const auto image_bytes = static_cast<std::int64_t>(max_image_bytes(limits));
  layout.image_bytes = static_cast<std::int32_t>(image_bytes);
  layout.max_replicated = static_cast<std::int32_t>(replicated);
  layout.max_columns = static_cast<std::int32_t>(columns);
  layout.common = add(kCommonBytes);
  layout.image = add(image_bytes);
  layout.state = add(static_cast<std::int64_t>(max_state_bytes(limits)));
  layout.has_costs = limits.cost != nullptr ? 1 : 0;
  layout.time = add(static_cast<std::int64_t>(max_time_bytes(limits)));
  layout.counters = layout.numbers = add(ints(kWarps * replicated));
  layout.totals = add(ints(columns + kOddColumns));
  layout.group_counts = add(ints(columns));
  layout.counters_bytes = static_cast<std::int32_t>(size - layout.counters);
  layout.received = add(ints(kMaxBlocks * (columns + 1)));
  layout.own = add(ints(columns));
  layout.before_rank = add(ints(replicated));
  layout.before_node = add(ints(replicated));
  layout.rank_tokens = add(ints(replicas));
  layout.node_tokens = add(ints(replicas));
  layout.quota = add(ints(replicas));
  layout.segments = add(replicas * static_cast<std::int64_t>(sizeof(Segment)));
  layout.heads = add(ints(replicated));

  if (limits.dynamic_slots > 0) {
    layout.has_copies = 1;
    layout.copies = add(copy_bytes);
    layout.copy_column = add(ints(limits.num_dynamic()));
    layout.replicas = add(replicas * static_cast<std::int64_t>(sizeof(Replica)));
    layout.physical = add(ints(replicas));
    layout.replica_rank = add(2 * replicas);
    layout.replica_begin = add(2 * (replicated + 1));
  }

  const std::int64_t slice_bytes = ints(kThreads);
  constexpr std::int64_t kLeastSlices = 2 * kChunk;  // slices of int32 ids: one chunk of int64 ids
  const std::int64_t rows_bytes = ints(columns * limits.num_ranks);
  layout.has_rows = size + rows_bytes + kLeastSlices * slice_bytes <= most_bytes ? 1 : 0;
  layout.rows = add(layout.has_rows != 0 ? rows_bytes : 0);
  const std::int64_t room = (most_bytes - size) / slice_bytes / kLeastSlices * kLeastSlices;
  layout.held_slices = static_cast<std::int32_t>(
      std::max(kLeastSlices, std::min(room, slices_to_hold(max_entries, max_blocks))));
  layout.held = add(layout.held_slices * slice_bytes);
  layout.bytes = static_cast<std::int32_t>(std::min<std::int64_t>(size, INT32_MAX));
  return layout;
}

void choose_form(const solvers::DeviceTablesHeader& tables, Solver solver, Header* header) {
  const solvers::Form form = solvers::choose_form(tables, solver);
  header->solver_form = static_cast<std::int32_t>(form);
  // NOTE: Block::sum_ranks() needs some threads that do not solve.
  static_assert(kThreads > solvers::kMostTeamThreads);
  header->solver_threads = solvers::team_threads(tables, form);
}

std::size_t max_state_bytes(const Limits& limits) {
  if (limits.dynamic_slots > 0) return 0;  // copies bring their own
  return static_cast<std::size_t>(solvers::state_bytes(worst_tables(limits)));
}

std::size_t max_time_bytes(const Limits& limits) {
  if (limits.cost == nullptr) return 0;
  return static_cast<std::size_t>(solvers::time_bytes(worst_tables(limits)));
}

}  // namespace lplb::plan
