// SPDX-License-Identifier: MIT
#include "place_job.h"

#include <algorithm>
#include <span>

#include "core/format.h"
#include "simulate/report/answer.h"
#include "simulate/report/markup.h"
#include "simulate/trace_load.h"

namespace lplb::app {
namespace {

using report::counted;

std::optional<Topology> topology_of(const std::string& policy) {
  if (policy == "eplb" || policy == kHomes) return std::nullopt;
  try {
    return parse_topology(policy);
  } catch (const ArgumentError& error) {
    const std::string problem = std::string(error.what()).substr(error.argument().size() + 2);
    throw ArgumentError("--policy", problem + " (or eplb or homes)");
  }
}

void read_load(const PlaceOptions& options, PlaceJob& job) {
  if (!options.load.empty()) {
    job.load = io::read_real_load(options.load, &job.layers);
    if (job.load.columns > std::size_t{kMaxPhysical}) {
      throw FileError(
          options.load, "key load",
          formatted("has {} experts a row, expected at most {}", job.load.columns, kMaxPhysical));
    }
    return;
  }
  replay::TraceLoad trace =
      replay::read_trace_load(options.trace, options.window, options.policy == kHomes);
  job.load.rows = static_cast<std::size_t>(trace.info.num_layers);
  job.load.columns = static_cast<std::size_t>(trace.info.num_logical_experts);
  job.load.values = std::move(trace.load);
  job.batches = std::move(trace.batches);
  job.layers = replay::layer_numbers(trace.info);
  job.load_text = formatted("{}{}: the load of {} of {} batches\n", trace.info.name,
                            trace.info.synthetic ? " (synthetic, not recorded)" : "",
                            trace.num_summed, trace.num_batches);
  const std::string note = report::repeats_note(trace.repeats, options.trace.drop_repeats);
  if (!note.empty()) job.load_text += report::plain(note) + "\n";
}

/// The number of row `i` in the model.
Index number_of(const std::vector<Index>& layers, std::size_t i) {
  return layers.empty() ? static_cast<Index>(i) : layers[i];
}

/// Keeps the layers that --layers names.
void select_layers(const PlaceOptions& options, PlaceJob& job) {
  if (options.layers.empty()) return;
  const std::size_t columns = job.load.columns;
  io::Matrix<double> kept{.rows = 0, .columns = columns, .values = {}};
  std::vector<Index> layers;
  std::vector<std::vector<Load>> batches(job.batches.size());
  for (const auto& [first, last] : options.layers) {
    for (Index layer = first; layer <= last; ++layer) {
      std::size_t row = 0;
      while (row < job.load.rows && number_of(job.layers, row) != layer) ++row;
      if (row == job.load.rows) {
        throw ArgumentError(
            "--layers", formatted("{} is no layer of {}, which has {} layers from {} to {}", layer,
                                  source_of(options), job.load.rows, number_of(job.layers, 0),
                                  number_of(job.layers, job.load.rows - 1)));
      }
      const auto begin = job.load.values.begin() + static_cast<std::ptrdiff_t>(row * columns);
      kept.values.insert(kept.values.end(), begin, begin + static_cast<std::ptrdiff_t>(columns));
      for (std::size_t i = 0; i < batches.size(); ++i) {
        const auto load = std::span(job.batches[i]).subspan(row * columns, columns);
        batches[i].insert(batches[i].end(), load.begin(), load.end());
      }
      layers.push_back(layer);
      ++kept.rows;
    }
  }
  job.load = std::move(kept);
  job.batches = std::move(batches);
  job.layers = std::move(layers);
}

/// Reads the old placements: a layer for each row of the load. If the file has other layers, too,
/// they are found by their numbers.
void read_from(const PlaceOptions& options, PlaceJob& job) {
  if (options.from.empty()) return;
  std::vector<Index> numbers;
  std::vector<Placement> old = io::read_placement(options.from, &numbers);
  if (old[0].num_logical_experts != job.num_logical) {
    throw ArgumentError("--from",
                        formatted("{} has {} logical experts, {} has {}", options.from,
                                  old[0].num_logical_experts, source_of(options), job.num_logical));
  }
  const std::vector<std::size_t> rows =
      io::rows_of_layers(numbers, old.size(), job.layers, job.load.rows);
  if (rows.empty() && old.size() == job.load.rows) {
    throw FileError(options.from, "key layers", "differs from that of the load");
  }
  if (rows.empty()) {
    throw FileError(
        options.from, "key physical_to_logical",
        formatted("has {}, expected {} as the load",
                  counted(static_cast<std::int64_t>(old.size()), "layer"), job.load.rows));
  }
  for (const std::size_t row : rows) job.from.push_back(old[row]);
  if (job.layers.empty()) job.layers = std::move(numbers);
}

Index nodes_of(const PlaceOptions& options, const PlaceJob& job) {
  const Placement* const old = job.from.empty() ? nullptr : &job.from[0];
  Index nodes = options.num_nodes.value_or(old == nullptr ? 1 : old->num_nodes);
  if (!options.num_nodes && old != nullptr && old->num_nodes > 1 &&
      old->num_ranks != job.num_ranks) {
    const Index on_a_node = old->num_ranks / old->num_nodes;
    if (job.num_ranks % on_a_node != 0) {
      throw ArgumentError("--num-nodes", formatted("is required: {} ranks are no whole nodes of {} "
                                                   "ranks, as {} has",
                                                   job.num_ranks, on_a_node, options.from));
    }
    nodes = job.num_ranks / on_a_node;
  }
  if (job.num_ranks % nodes != 0) {
    throw ArgumentError("--num-nodes",
                        formatted("{} does not divide num_ranks ({})", nodes, job.num_ranks));
  }
  return nodes;
}

/// Nodes, speeds and dead ranks: those of the options, otherwise those of the old placement. Ranks
/// that are new live and have speed 1.
PlacementOptions group_of(const PlaceOptions& options, const PlaceJob& job) {
  const auto num_ranks = static_cast<std::size_t>(job.num_ranks);
  PlacementOptions group;
  group.num_nodes = nodes_of(options, job);
  if (!job.from.empty()) {
    group.rank_speed = job.from[0].rank_speed;
    group.rank_alive = job.from[0].rank_alive;
    if (!group.rank_speed.empty()) group.rank_speed.resize(num_ranks, 1.0);
    if (!group.rank_alive.empty()) group.rank_alive.resize(num_ranks, 1);
  }
  if (!options.rank_speed.empty()) {
    if (options.rank_speed.size() != num_ranks) {
      throw ArgumentError("--rank-speed", formatted("has {} numbers, expected num_ranks ({})",
                                                    options.rank_speed.size(), num_ranks));
    }
    group.rank_speed = options.rank_speed;
  }
  if (options.dead_ranks) {
    group.rank_alive.assign(options.dead_ranks->empty() ? 0 : num_ranks, 1);
    for (const Index rank : *options.dead_ranks) {
      if (rank >= job.num_ranks) {
        throw ArgumentError("--dead-ranks",
                            formatted("{} is no rank, expected 0 to {}", rank, num_ranks - 1));
      }
      group.rank_alive[static_cast<std::size_t>(rank)] = 0;
    }
    if (!options.dead_ranks->empty() &&
        std::count(group.rank_alive.begin(), group.rank_alive.end(), 1) == 0) {
      throw ArgumentError("--dead-ranks", "names every rank, expected one that lives");
    }
  }
  return group;
}

}  // namespace

const std::string& source_of(const PlaceOptions& options) {
  return options.load.empty() ? options.trace.trace : options.load;
}

bool has_tokens(const PlaceJob& job, std::size_t i) {
  const auto row = std::span(job.load.values).subspan(i * job.load.columns, job.load.columns);
  return std::ranges::any_of(row, [](double load) { return load > 0; });
}

bool stays(const PlaceJob& job, std::size_t i, Index num_physical) {
  if (job.from.empty() || has_tokens(job, i)) return false;
  const Placement& old = job.from[i];
  return old.num_ranks == job.num_ranks && old.num_physical() == num_physical &&
         old.num_nodes == job.group.num_nodes && old.rank_speed == job.group.rank_speed &&
         old.rank_alive == job.group.rank_alive;
}

PlaceJob read_place_job(const PlaceOptions& options) {
  PlaceJob job;
  job.topology = topology_of(options.policy);
  read_load(options, job);
  job.num_logical = static_cast<Index>(job.load.columns);
  select_layers(options, job);
  read_from(options, job);
  if (options.num_ranks) {
    job.num_ranks = *options.num_ranks;
  } else if (!job.from.empty()) {
    job.num_ranks = job.from[0].num_ranks;
  } else if (job.topology) {
    job.num_ranks = job.topology->group_size;
  } else {
    throw ArgumentError("--num-ranks", "is required");
  }
  job.group = group_of(options, job);
  return job;
}

}  // namespace lplb::app
