// SPDX-License-Identifier: MIT

#include <algorithm>
#include <charconv>
#include <cmath>
#include <memory>

#include "backend.h"
#include "commands.h"
#include "core/format.h"
#include "lplb/homes.h"
#include "lplb/replicate.h"
#include "options.h"
#include "outputs.h"
#include "place_job.h"
#include "place_table.h"
#include "trace_options.h"

namespace lplb::app {
namespace {

constexpr double kMaxSeconds = 1e9;

/// Makes a placement of each layer; layers without load keep the old one. NOTE: nothing can be
/// copied to a dead rank, so its slots keep what the old placement has there.
std::vector<Placement> placements_of(const ExpertMaps& maps, const PlaceJob& job) {
  std::vector<Placement> layers;
  layers.reserve(static_cast<std::size_t>(maps.num_layers));
  const Index slots = maps.num_physical / job.num_ranks;
  for (Index i = 0; i < maps.num_layers; ++i) {
    if (stays(job, static_cast<std::size_t>(i), maps.num_physical)) {
      layers.push_back(job.from[static_cast<std::size_t>(i)]);
      continue;
    }
    std::vector<Index> experts(maps.layer(i).begin(), maps.layer(i).end());
    for (Index p = 0; !job.from.empty() && p < maps.num_physical; ++p) {
      const Placement& old = job.from[static_cast<std::size_t>(i)];
      const Index rank = p / slots;
      const bool dead = !job.group.rank_alive.empty() &&
                        job.group.rank_alive[static_cast<std::size_t>(rank)] == 0;
      if (!dead || rank >= old.num_ranks || p % slots >= old.slots_per_rank()) continue;
      experts[static_cast<std::size_t>(p)] = old.physical_to_logical[static_cast<std::size_t>(
          rank * old.slots_per_rank() + p % slots)];
    }
    layers.push_back(make_placement(job.num_ranks, job.num_logical, experts, job.group));
  }
  return layers;
}

/// Refuses options that do not go together.
void check_options(const PlaceOptions& options, const CLI::App& command) {
  const std::string& trace = options.trace.trace;
  if (options.load.empty() == trace.empty()) {
    throw ArgumentError("--load", options.load.empty()
                                      ? "is required, or --trace"
                                      : "says the same as --trace, expected one of them");
  }
  for (const char* name : {"--window", "--batch-tokens", "--skip-steps", "--drop-repeats"}) {
    if (trace.empty() && command.get_option(name)->count() > 0) {
      throw ArgumentError(name, "needs --trace");
    }
  }
  check_synthetic(command, trace);
  if (options.keep_slots && options.from.empty()) {
    throw ArgumentError("--keep-slots", "needs --from");
  }
  if (options.keep_ranks && options.policy != "eplb") {
    throw ArgumentError("--keep-ranks",
                        formatted("is for eplb; with {} ranks have a meaning", options.policy));
  }
  if (options.keep_ranks && options.from.empty()) {
    throw ArgumentError("--keep-ranks", "needs --from");
  }
  for (const char* name : {"--max-moves", "--max-bytes", "--expert-bytes", "--move-homes",
                           "--budget", "--budget-seconds", "--dynamic-slots", "--backend"}) {
    if (options.policy != "homes" && command.get_option(name)->count() > 0) {
      throw ArgumentError(name, "needs --policy homes");
    }
  }
  for (const char* name : {"--max-moves", "--max-bytes"}) {
    if (options.from.empty() && command.get_option(name)->count() > 0) {
      throw ArgumentError(name, "needs --from");
    }
  }
  if (options.max_bytes && !options.expert_bytes) {
    throw ArgumentError("--max-bytes", "needs --expert-bytes");
  }
}

void run(const PlaceOptions& options, const CLI::App& command) {
  const Outputs outputs({{"--json", options.json}}, {{"--load", options.load},
                                                     {"--trace", options.trace.trace},
                                                     {"--from", options.from},
                                                     {"--policy", file_of_policy(options.policy)}});
  check_options(options, command);
  const BackendChoice backend(options.backend);
  PlaceJob job = read_place_job(options);
  job.backend = backend.backend();
  PlaceResult placed = place(options, job);
  ExpertMaps& maps = placed.maps;
  std::vector<Placement> layers = placements_of(maps, job);
  io::LayerMoves moves(job.from.size());
  for (std::size_t i = 0; i < job.from.size(); ++i) {
    if (options.keep_ranks) {
      const bool by_node = options.num_groups % job.group.num_nodes == 0;
      layers[i] = keep_ranks(job.from[i], layers[i], by_node);
    } else if (options.keep_slots) {
      layers[i] = keep_slots(job.from[i], layers[i]);
    }
    moves[i] = plan_moves(job.from[i], layers[i]);
  }
  bool as_made = job.group.rank_alive.empty() && !options.keep_slots && !options.keep_ranks;
  for (std::size_t i = 0; i < layers.size(); ++i) as_made &= !stays(job, i, maps.num_physical);
  if (!job.from.empty() && !as_made) {
    maps = io::maps_of(layers);
  }
  const io::LayerMoves* shown_moves = job.from.empty() ? nullptr : &moves;
  outputs.write(
      {options.json.empty() ? "" : io::placement_json(maps, layers[0], shown_moves, job.layers)});
  if (!outputs.take_standard_output()) print(place_table(job, layers, shown_moves, placed));
  backend.tell_search(layers.size(), placed.refused);
}

/// "0,3-5" as {{0, 0}, {3, 5}}.
std::vector<std::pair<Index, Index>> parse_ranges(const std::string& option,
                                                  const std::string& text) {
  std::vector<std::pair<Index, Index>> ranges;
  for (const std::string& item : split_list(text)) {
    const std::size_t dash = item.find('-', 1);
    const auto number = [&](const std::string& part) {
      return static_cast<Index>(parse_integer(option, part, 0, kMaxIndex - 1));
    };
    const Index first = number(item.substr(0, dash));
    const Index last = dash == std::string::npos ? first : number(item.substr(dash + 1));
    if (last < first || (!ranges.empty() && first <= ranges.back().second)) {
      throw ArgumentError(option, formatted("{}, expected ascending numbers and ranges, such as "
                                            "0,3-5",
                                            io::quote(text)));
    }
    ranges.emplace_back(first, last);
  }
  return ranges;
}

std::vector<double> parse_speeds(const std::string& option, const std::string& text) {
  std::vector<double> speeds;
  for (const std::string& item : split_list(text)) {
    double value = 0;
    const char* const end = item.data() + item.size();
    const auto [at, error] = std::from_chars(item.data(), end, value);
    if (error != std::errc() || at != end || !std::isnormal(value) || value < 0) {
      throw ArgumentError(option, formatted("{}, expected a number > 0 for each rank, such as "
                                            "1,1,0.5,1",
                                            io::quote(item)));
    }
    speeds.push_back(value);
  }
  return speeds;
}

std::vector<Index> parse_ranks(const std::string& option, const std::string& text) {
  std::vector<Index> ranks;
  for (const std::string& item : split_list(text == "none" ? "" : text)) {
    if (text == "none") break;
    ranks.push_back(static_cast<Index>(parse_integer(option, item, 0, kMaxRanks - 1)));
  }
  return ranks;
}

void add_inputs(CLI::App& command, PlaceOptions& options) {
  add_text(command, "--load", kInput, kFile, options.load,
           "Load file: one row for each layer, of integers or real numbers. Either this or --trace "
           "is required");
  add_text(command, "--trace", kInput, kFile, options.trace.trace, trace_help());
  add_integer(command, "--window", kInput, options.window, 0, kMaxIndex,
              "With --trace: the load is the sum of the last N batches; 0: of all");
  add_integer(command, "--batch-tokens", kInput, options.trace.batch_tokens, 0, kMaxCount,
              "With --trace: tokens of a batch, as in lplb simulate; 0: batches are the steps as "
              "recorded");
  add_integer(command, "--skip-steps", kInput, options.trace.skip_steps, 0, kMaxCount,
              "With --trace: leave out the first N steps");
  add_flag(command, "--drop-repeats", kInput, options.trace.drop_repeats,
           "With --trace: leave out tokens that are padding or warm-up, as in lplb simulate");
  add_value(
      command, "--layers", kInput, "LIST",
      "Only these layers, such as 0,3-5, numbered as in the model",
      [&options](const std::string& text) { options.layers = parse_ranges("--layers", text); })
      ->default_str("all");
  add_text(command, "--from", kInput, kFile, options.from,
           "The placement file in use. The result then also lists the weights to move. What the "
           "options do not say comes from this file: ranks, nodes, slots of a rank, speeds, dead "
           "ranks");
}

void add_ranks(CLI::App& command, PlaceOptions& options) {
  add_integer(command, "--num-ranks", kSettings, options.num_ranks, 1, kMaxRanks,
              "Number of ranks; if not given, that of --from or of the topology. If it is not that "
              "of --from, rank g stays rank g: further ranks are new, or the last ones leave");
  add_integer(command, "--num-nodes", kSettings, options.num_nodes, 1, kMaxRanks,
              "Number of nodes, which divides the ranks; if not given, nodes are as large as in "
              "--from, and otherwise there is one");
  add_integer(command, "--num-replicas", kSettings, options.num_replicas, 1, kMaxPhysical,
              "With eplb and homes: number of physical experts of all ranks");
  add_integer(command, "--redundants", kSettings, options.redundants, 0, kMaxPhysical,
              "Redundant slots of each rank");
  add_value(command, "--dead-ranks", kSettings, "LIST",
            "Ranks that get no load, such as 1,3; none: all ranks live. If not given, those of "
            "--from. Experts are placed on the other ranks",
            [&options](const std::string& text) {
              options.dead_ranks = parse_ranks("--dead-ranks", text);
            });
  add_value(command, "--rank-speed", kSettings, "LIST",
            "Speed of each rank, such as 1,1,0.5,1; if not given, those of --from. Experts are "
            "packed by load / speed",
            [&options](const std::string& text) {
              options.rank_speed = parse_speeds("--rank-speed", text);
            });
}

void add_homes(CLI::App& command, PlaceOptions& options) {
  add_flag(command, "--move-homes", kSettings, options.move_homes,
           "With homes: homes may move; without --from they are packed by load. Otherwise they are "
           "those of --from, or contiguous");
  add_integer(
      command, "--max-moves", kSettings, options.max_moves, 0, kMaxCount,
      "With homes and --from: at most that many slots of a layer get an expert that is new on "
      "their rank");
  add_integer(command, "--max-bytes", kSettings, options.max_bytes, 0, kMaxCount,
              "With homes and --from: the experts of all layers that are new on their rank have at "
              "most that many bytes, which go to the layers that gain most");
  add_integer(command, "--expert-bytes", kSettings, options.expert_bytes, 1, kMaxCount,
              "With --max-bytes: bytes of one expert's weights in one layer");
  add_integer(command, "--budget", kSettings, options.budget, 0, kMaxCount,
              "With homes: how many changes of each layer are judged by exact splits; more are "
              "never worse")
      ->default_str(std::to_string(HomesOptions().max_trials));
  add_number(command, "--budget-seconds", kSettings, options.budget_seconds, 0, kMaxSeconds,
             "With homes: the search of all layers ends after X seconds, and without --budget only "
             "then. Its result cannot be repeated, because it depends on the machine's speed")
      ->default_str("no limit");
  add_integer(command, "--dynamic-slots", kSettings, options.dynamic_slots, 1, kMaxDynamicSlots,
              "With homes: judge by what N further slots of each rank leave, which get copies of "
              "experts for each batch, from the same node (lplb replicate)");
  add_backend(command, options.backend,
              "With homes: where the search runs; auto: on the GPU if there is one that takes it. "
              "The placement is the same, and standard error says what ran. A GPU takes neither "
              "--dynamic-slots, --max-bytes nor unequal speeds");
}

}  // namespace

void add_place(CLI::App& program) {
  CLI::App* command = program.add_subcommand(
      "place", "Choose which experts get replicas, and on which ranks, from past loads");
  auto options = std::make_shared<PlaceOptions>();
  add_inputs(*command, *options);
  add_text(*command, "--policy", kSettings, "eplb|homes|cube|hypercube|torus:MxN|ring:N|r2o:FILE",
           options->policy, "How experts are replicated and placed");
  add_ranks(*command, *options);
  add_integer(
      *command, "--num-groups", kSettings, options->num_groups, 1, kMaxPhysical,
      "With eplb: expert groups of the router. If the number of nodes divides their number, "
      "placement is hierarchical");
  add_flag(
      *command, "--spread", kSettings, options->spread,
      "With eplb: no two replicas of an expert on one rank. Topologies never make such a pair");
  add_flag(*command, "--keep-slots", kSettings, options->keep_slots,
           "With --from: an expert that stays on its rank also stays in its slot");
  add_flag(*command, "--keep-ranks", kSettings, options->keep_ranks,
           "With eplb and --from: ranks exchange their experts so that few move, and --keep-slots");
  add_homes(*command, *options);
  add_threads(*command, "--threads", options->threads,
              "Number of threads: how many layers are placed in parallel");
  add_synthetic(*command, options->trace.synthetic);
  add_json(*command, options->json);
  command->footer(
      "Examples:\n"
      "  lplb place --load load.json --policy eplb --num-replicas 288 --num-ranks 32 --json "
      "placement.json\n"
      "  lplb place --trace data/traces/deepseek-v2-lite.load.jsonl --window 8 --policy cube\n"
      "             --redundants 2 --json placement.json\n"
      "  lplb place --trace data/traces/deepseek-v2-lite.load.jsonl --window 8 --policy homes\n"
      "             --num-ranks 8 --redundants 1 --json placement.json\n"
      "  lplb place --load load.json --from old.json --dead-ranks 3 --json new.json");
  command->callback([options, command] { run(*options, *command); });
}

}  // namespace lplb::app
