// SPDX-License-Identifier: MIT
#include "lplb/replicate.h"

#include <algorithm>
#include <limits>
#include <memory>
#include <optional>

#include "commands.h"
#include "core/format.h"
#include "core/parallel.h"
#include "exit_status.h"
#include "io/files.h"
#include "options.h"
#include "outputs.h"
#include "rows.h"
#include "split_json.h"

namespace lplb::app {
namespace {

struct ReplicateArguments {
  std::string placement;
  std::string load;
  ReplicateOptions replicate;
  int threads = 1;
  std::string json;
};

std::vector<Replication> replicate_all(const ReplicateArguments& options, const Rows& rows) {
  std::vector<Replication> results(rows.count());
  // One for each thread, of the layer that it was last used for.
  struct Used {
    std::optional<Replicator> replicator;
    std::size_t layer = 0;
  };
  std::vector<Used> used(static_cast<std::size_t>(options.threads));
  parallel_chunks(static_cast<std::int64_t>(rows.count()), kRowsAtOnce, options.threads,
                  [&](std::int64_t begin, std::int64_t end, int thread) {
                    Used& own = used[static_cast<std::size_t>(thread)];
                    for (auto i = static_cast<std::size_t>(begin);
                         i < static_cast<std::size_t>(end); ++i) {
                      const Placement& placement = rows.placement(i);
                      if (!own.replicator || own.layer != rows.layer_of(i)) {
                        own.replicator.emplace(placement, options.replicate);
                        own.layer = rows.layer_of(i);
                      }
                      own.replicator->run(rows[i], results[i]);
                      const std::string problem =
                          verify_replication(placement, rows[i], options.replicate, results[i]);
                      if (!problem.empty())
                        throw InternalError("the copies failed their check: " + problem);
                    }
                  });
  return results;
}

nlohmann::ordered_json result_json(const Placement& placement, Index dynamic_slots,
                                   const Replication& r) {
  nlohmann::ordered_json json;
  json["status"] = status_name(r.status);
  json["max_load"] = level_json(placement, r.max_level, r.max_load);
  json["lower_bound"] = level_json(placement, r.bound_level, r.lower_bound);
  json["copies"] = r.copies;
  json["slot_expert"] = nlohmann::ordered_json::array();
  for (auto row = r.slot_expert.begin(); row != r.slot_expert.end(); row += dynamic_slots) {
    json["slot_expert"].push_back(std::vector<Index>(row, row + dynamic_slots));
  }
  json["rank_load"] = r.rank_load;
  json["physical_load"] = r.physical_load;
  return json;
}

std::string table_of(const Rows& rows, const std::vector<Replication>& all,
                     const nlohmann::ordered_json& results) {
  Table table({"row", "status", "max load", "lower bound", "imbalance", "copies", "most sent"});
  std::size_t optimal = 0;
  double copies = 0;
  Imbalances imbalances;
  for (std::size_t i = 0; i < all.size(); ++i) {
    const Replication& r = all[i];
    const std::string cell =
        imbalances.add(imbalance(rows.placement(i), r.rank_load), rows.has_tokens(i));
    optimal += r.status == SolveStatus::kOptimal ? 1 : 0;
    copies += r.copies;
    if (i >= kTableRows) continue;
    table.add({std::to_string(i), status_name(r.status), level_text(results[i]["max_load"]),
               level_text(results[i]["lower_bound"]), cell, std::to_string(r.copies),
               std::to_string(r.max_sent)});
  }
  std::string text = table.text();
  if (all.size() > kTableRows) text += formatted("... and {} rows more\n", all.size() - kTableRows);
  return text +
         formatted("{} of {} proven optimal; imbalance mean {}, worst {}{}; copies a row {:.1f}\n",
                   optimal, all.size(), imbalances.mean(), imbalances.worst(),
                   imbalances.empty_text("row"), copies / static_cast<double>(all.size()));
}

void run(const ReplicateArguments& options) {
  const Outputs outputs({{"--json", options.json}},
                        {{"--placement", options.placement}, {"--load", options.load}});
  const Rows rows = read_rows(options.placement, options.load);
  const Placement& first = rows.layers[0];
  const Index slots = first.slots_per_rank() + options.replicate.dynamic_slots;
  if (slots * first.num_ranks > kMaxPhysical) {
    throw ArgumentError("--slots",
                        formatted("{}, makes {} slots with the placement's {}, expected "
                                  "at most {}",
                                  options.replicate.dynamic_slots, slots * first.num_ranks,
                                  first.num_physical(), kMaxPhysical));
  }
  const std::vector<Replication> results = replicate_all(options, rows);
  nlohmann::ordered_json json;
  json["num_ranks"] = rows.layers[0].num_ranks;
  json["slots_per_rank"] = options.replicate.dynamic_slots;
  json["results"] = nlohmann::ordered_json::array();
  for (std::size_t i = 0; i < results.size(); ++i) {
    json["results"].push_back(
        result_json(rows.placement(i), options.replicate.dynamic_slots, results[i]));
  }
  outputs.write({options.json.empty() ? "" : io::json_text(json)});
  if (!outputs.take_standard_output()) print(table_of(rows, results, json["results"]));
}

}  // namespace

void add_replicate(CLI::App& program) {
  CLI::App* command =
      program.add_subcommand("replicate",
                             "Choose for each load which experts are copied to which ranks, and "
                             "split the load over homes and copies");
  auto options = std::make_shared<ReplicateArguments>();
  ReplicateOptions& how = options->replicate;
  add_text(*command, "--placement", kInput, kFile, options->placement,
           "Placement file: homes, and perhaps static replicas. If it has one layer, that serves "
           "every row of the load file; otherwise layer i serves row i")
      ->required();
  add_text(*command, "--load", kInput, kFile, options->load,
           "Load file: the tokens of each expert, one row for each batch or layer")
      ->required();
  add_integer(*command, "--slots", kSettings, how.dynamic_slots, 1, kMaxDynamicSlots,
              "Dynamic slots of each rank: how many copies it has room for");
  add_number(*command, "--target", kSettings, how.target, 1, kMaxCopyTarget,
             "Make copies until no rank has more than this multiple of the mean load");
  add_integer(*command, "--min-tokens", kSettings, how.min_tokens, 1,
              std::numeric_limits<Load>::max(), "What a copy carries at least");
  add_integer(*command, "--num-domains", kSettings, how.num_domains, 1, kMaxRanks,
              "Number of domains of consecutive ranks, such as NVLink domains. Copies stay in "
              "their domain; static replicas join domains");
  add_threads(*command, "--threads", options->threads,
              "Number of threads: how many rows are planned in parallel");
  add_json(*command, options->json);
  command->footer(
      "Example: lplb replicate --placement placement.json --load load.json --slots 2 --json -");
  command->callback([options] { run(*options); });
}

}  // namespace lplb::app
