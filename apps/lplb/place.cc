// SPDX-License-Identifier: MIT

#include <algorithm>
#include <memory>
#include <optional>

#include "commands.h"
#include "core/format.h"
#include "io/files.h"
#include "lplb/placement.h"
#include "options.h"
#include "outputs.h"

namespace lplb::app {
namespace {

constexpr std::size_t kTableRows = 20;

struct Options {
  std::string load;
  std::string from;
  std::string policy = "eplb";
  std::optional<Index> num_ranks;
  std::optional<Index> num_nodes;
  std::optional<Index> num_replicas;
  std::optional<Index> redundants;
  Index num_groups = 1;
  bool spread = false;
  bool keep_slots = false;
  int threads = 1;
  std::string json;
};

/// What the options and the files say together.
struct Job {
  io::Matrix<double> load;      ///< [layers, num_logical]
  std::vector<Placement> from;  ///< empty without --from
  std::vector<Index> layers;    ///< the model's numbers of the layers; empty if no file has them
  std::optional<Topology> topology;
  Index num_ranks = 0;
  Index num_nodes = 1;
  Index num_logical = 0;
};

std::optional<Topology> topology_of(const std::string& policy) {
  if (policy == "eplb") return std::nullopt;
  try {
    return parse_topology(policy);
  } catch (const ArgumentError& error) {
    const std::string problem = std::string(error.what()).substr(error.argument().size() + 2);
    throw ArgumentError("--policy", problem + " (or eplb)");
  }
}

Job read_job(const Options& options) {
  Job job;
  job.topology = topology_of(options.policy);
  std::vector<Index> old_layers;
  if (!options.from.empty()) job.from = io::read_placement(options.from, &old_layers);
  job.load = io::read_real_load(options.load, &job.layers);
  if (job.load.columns > std::size_t{kMaxPhysical}) {
    throw FileError(
        options.load, "key load",
        formatted("has {} experts a row, expected at most {}", job.load.columns, kMaxPhysical));
  }
  job.num_logical = static_cast<Index>(job.load.columns);
  if (!job.from.empty() && job.from.size() != job.load.rows) {
    throw FileError(
        options.from, "key physical_to_logical",
        formatted("has {} layers, expected {} as the load file", job.from.size(), job.load.rows));
  }
  if (job.layers.empty()) job.layers = old_layers;
  if (!old_layers.empty() && job.layers != old_layers) {
    throw FileError(options.from, "key layers", "differs from that of the load file");
  }

  const Placement* old = job.from.empty() ? nullptr : &job.from[0];
  if (options.num_ranks) {
    job.num_ranks = *options.num_ranks;
  } else if (old != nullptr) {
    job.num_ranks = old->num_ranks;
  } else if (job.topology) {
    job.num_ranks = job.topology->group_size;
  } else {
    throw ArgumentError("--num-ranks", "is required");
  }
  job.num_nodes = options.num_nodes ? *options.num_nodes : old != nullptr ? old->num_nodes : 1;
  return job;
}

ExpertMaps place(const Options& options, const Job& job) {
  const auto num_layers = static_cast<Index>(job.load.rows);
  const RebalanceOptions how{.num_threads = options.threads, .spread = options.spread};
  if (job.topology) {
    if (options.num_replicas) {
      throw ArgumentError("--num-replicas",
                          formatted("is for eplb; {} takes --redundants", options.policy));
    }
    if (!options.redundants) {
      throw ArgumentError("--redundants", formatted("is required for {}", options.policy));
    }
    if (job.num_ranks % job.topology->group_size == 0 && job.num_logical % job.num_ranks != 0) {
      throw FileError(options.load, "key load",
                      formatted("has {} experts a row, expected a multiple of the {} ranks",
                                job.num_logical, job.num_ranks));
    }
    return place_on_topology(job.load.values, num_layers, job.num_logical, *job.topology,
                             *options.redundants, job.num_ranks, job.num_nodes, how);
  }
  if (options.num_replicas && options.redundants) {
    throw ArgumentError("--redundants", "says the same as --num-replicas, expected one of them");
  }
  std::int64_t num_replicas = 0;
  if (options.num_replicas) {
    num_replicas = *options.num_replicas;
  } else if (options.redundants) {
    num_replicas = job.num_logical + std::int64_t{*options.redundants} * job.num_ranks;
  } else if (!job.from.empty()) {
    num_replicas = job.from[0].num_physical();
  } else {
    throw ArgumentError("--num-replicas", "is required for eplb");
  }
  if (num_replicas > kMaxPhysical) {
    throw ArgumentError(
        options.num_replicas ? "--num-replicas" : "--redundants",
        formatted("makes {} physical experts, expected at most {}", num_replicas, kMaxPhysical));
  }
  return rebalance_experts(job.load.values, num_layers, job.num_logical,
                           static_cast<Index>(num_replicas), options.num_groups, job.num_nodes,
                           job.num_ranks, how);
}

/// Makes a placement of each layer. If there is an old placement, its speeds and dead ranks are
/// kept.
std::vector<Placement> placements_of(const Options& options, const ExpertMaps& maps,
                                     const Job& job) {
  PlacementOptions rest;
  // EPLB uses nodes only if their number divides the number of groups. If not, it need not divide
  // the number of ranks either.
  if (job.num_ranks % job.num_nodes == 0) rest.num_nodes = job.num_nodes;
  if (!job.from.empty()) {
    rest.rank_speed = job.from[0].rank_speed;
    rest.rank_alive = job.from[0].rank_alive;
  }
  std::vector<Placement> layers;
  layers.reserve(static_cast<std::size_t>(maps.num_layers));
  for (Index i = 0; i < maps.num_layers; ++i) {
    try {
      layers.push_back(make_placement(job.num_ranks, job.num_logical, maps.layer(i), rest));
    } catch (const ArgumentError& error) {
      if (error.argument() != "rank_alive") throw;
      throw ArgumentError("--from",
                          formatted("{} has dead ranks; in the new placement of layer {} {}",
                                    options.from, i, std::string(error.what()).substr(12)));
    }
  }
  return layers;
}

/// Checks that the two placements have the same shape, because a move goes from a slot of the old
/// one to a slot of the new one.
void check_same_shape(const std::string& path, const Placement& from, const Placement& to) {
  const auto check = [&](Index old_count, Index new_count, const char* what) {
    if (old_count == new_count) return;
    throw ArgumentError("--from", formatted("{} has {} {}, the new placement has {}", path,
                                            old_count, what, new_count));
  };
  check(from.num_ranks, to.num_ranks, "ranks");
  check(from.num_nodes, to.num_nodes, "nodes");
  check(from.num_logical_experts, to.num_logical_experts, "logical experts");
  check(from.num_physical(), to.num_physical(), "physical experts");
}

std::span<const double> row_of(const io::Matrix<double>& load, std::size_t i) {
  return std::span(load.values).subspan(i * load.columns, load.columns);
}

std::string table_of(const Job& job, const std::vector<Placement>& layers,
                     const io::LayerMoves* moves) {
  std::vector<std::string> header = {"layer", "imbalance (even split)", "most replicas"};
  if (moves != nullptr) header.insert(header.end(), {"same rank", "same node", "other node"});
  Table table(std::move(header));
  for (std::size_t i = 0; i < std::min(layers.size(), kTableRows); ++i) {
    std::vector<std::string> row = {
        std::to_string(job.layers.empty() ? static_cast<Index>(i) : job.layers[i]),
        formatted("{:.4f}", even_imbalance(layers[i], row_of(job.load, i))),
        std::to_string(layers[i].max_replicas)};
    for (const MoveKind kind : {MoveKind::kSameRank, MoveKind::kSameNode, MoveKind::kOtherNode}) {
      if (moves == nullptr) break;
      row.push_back(std::to_string(std::count_if((*moves)[i].begin(), (*moves)[i].end(),
                                                 [&](const Move& m) { return m.kind == kind; })));
    }
    table.add(std::move(row));
  }
  std::string text = table.text();
  if (layers.size() > kTableRows) {
    text += formatted("... and {} layers more\n", layers.size() - kTableRows);
  }
  return text;
}

void run(const Options& options) {
  const Outputs outputs({{"--json", options.json}});
  if (options.keep_slots && options.from.empty()) {
    throw ArgumentError("--keep-slots", "needs --from");
  }
  const Job job = read_job(options);
  ExpertMaps maps = place(options, job);
  std::vector<Placement> layers = placements_of(options, maps, job);
  if (!job.from.empty()) check_same_shape(options.from, job.from[0], layers[0]);
  io::LayerMoves moves(job.from.size());
  for (std::size_t i = 0; i < job.from.size(); ++i) {
    if (options.keep_slots) layers[i] = keep_slots(job.from[i], layers[i]);
    moves[i] = plan_moves(job.from[i], layers[i]);
  }
  if (options.keep_slots) maps = io::maps_of(layers);
  const io::LayerMoves* shown_moves = job.from.empty() ? nullptr : &moves;
  outputs.write(
      {options.json.empty() ? "" : io::placement_json(maps, layers[0], shown_moves, job.layers)});
  if (!outputs.take_standard_output()) print(table_of(job, layers, shown_moves));
}

}  // namespace

void add_place(CLI::App& program) {
  CLI::App* command = program.add_subcommand(
      "place", "Choose which experts get replicas, and on which ranks, from past loads");
  auto options = std::make_shared<Options>();
  add_text(*command, "--load", kInput, kFile, options->load,
           "Load file: one row for each layer, of integers or real numbers")
      ->required();
  add_text(*command, "--from", kInput, kFile, options->from,
           "The placement file in use. The result then also lists the weights to move, and the "
           "numbers of ranks, nodes and slots come from this file unless an option gives them");
  add_text(*command, "--policy", kSettings, "eplb|cube|hypercube|torus:MxN|ring:N|r2o:FILE",
           options->policy, "How experts are replicated and placed");
  add_integer(*command, "--num-ranks", kSettings, options->num_ranks, 1, kMaxRanks,
              "Number of ranks; if not given, that of --from or of the topology");
  add_integer(*command, "--num-nodes", kSettings, options->num_nodes, 1, kMaxRanks,
              "Number of nodes; if not given, that of --from, otherwise 1");
  add_integer(*command, "--num-replicas", kSettings, options->num_replicas, 1, kMaxPhysical,
              "With eplb: number of physical experts of all ranks");
  add_integer(*command, "--redundants", kSettings, options->redundants, 0, kMaxPhysical,
              "Redundant slots of each rank");
  add_integer(
      *command, "--num-groups", kSettings, options->num_groups, 1, kMaxPhysical,
      "With eplb: expert groups of the router. If the number of nodes divides their number, "
      "placement is hierarchical");
  add_flag(
      *command, "--spread", kSettings, options->spread,
      "With eplb: no two replicas of an expert on one rank. Topologies never make such a pair");
  add_flag(*command, "--keep-slots", kSettings, options->keep_slots,
           "With --from: an expert that stays on its rank also stays in its slot");
  add_threads(*command, "--threads", options->threads,
              "Number of threads: how many layers are placed in parallel");
  add_json(*command, options->json);
  command->footer(
      "Examples:\n"
      "  lplb place --load load.json --policy eplb --num-replicas 288 --num-ranks 32 --json "
      "placement.json\n"
      "  lplb place --load load.json --policy cube --redundants 2 --from old.json --json -");
  command->callback([options] { run(*options); });
}

}  // namespace lplb::app
