// SPDX-License-Identifier: MIT

#include <algorithm>
#include <memory>
#include <numeric>
#include <optional>

#include "backend.h"
#include "commands.h"
#include "core/format.h"
#include "core/parallel.h"
#include "exit_status.h"
#include "io/files.h"
#include "io/npy.h"
#include "lplb/mapping.h"
#include "lplb/solver.h"
#include "options.h"
#include "outputs.h"
#include "split_json.h"

namespace lplb::app {
namespace {

struct PlanArguments {
  std::string placement;
  std::string topk;
  std::string out;
  std::string solver = "auto";
  std::string backend = "cpu";
  std::string cost;
  int threads = 1;
  std::string json;
};

/// The batches of all ranks: ids [num_ranks, num_tokens, num_topk].
struct Batch {
  io::NpyArray ids;
  std::size_t num_ranks = 0;
  std::size_t entries = 0;  ///< entries of one rank

  std::span<const std::int64_t> rank(std::size_t r) const {
    return {ids.values.data() + r * entries, entries};
  }
};

Batch read_batch(const std::string& path, const Placement& placement) {
  const std::string name = path == "-" ? "standard input" : path;
  Batch batch;
  batch.ids = io::parse_npy(io::read_file(path), name);
  const io::NpyHeader& header = batch.ids.header;
  if (header.shape.size() != 3 || header.shape[0] != placement.num_ranks || header.shape[2] < 1) {
    throw FileError(name, "header",
                    formatted("shape [{}], expected [num_ranks ({}), num_tokens, num_topk >= 1]",
                              fmt::join(header.shape, ", "), placement.num_ranks));
  }
  batch.num_ranks = static_cast<std::size_t>(header.shape[0]);
  batch.entries = batch.ids.values.size() / batch.num_ranks;
  const Index last = placement.num_logical_experts - 1;
  const auto bad = std::find_if(batch.ids.values.begin(), batch.ids.values.end(),
                                [&](std::int64_t id) { return id < -1 || id > last; });
  if (bad != batch.ids.values.end()) {
    const std::int64_t at = bad - batch.ids.values.begin();
    const auto entries = static_cast<std::int64_t>(batch.entries);
    throw FileError(name,
                    formatted("entry [{}, {}, {}]", at / entries, at % entries / header.shape[2],
                              at % header.shape[2]),
                    formatted("expert {}, expected -1 (dropped) to {}", *bad, last));
  }
  return batch;
}

/// The type of the physical ids: that of the logical ids if it holds -1 and every slot.
std::string dtype_of_output(const io::NpyHeader& topk) {
  return topk.dtype == "<i8" ? "<i8" : "<i4";
}

/// The counts of each rank [num_ranks, num_logical], and their sum over the ranks.
struct Counts {
  std::vector<Load> by_rank;
  std::vector<Load> total;
};

Counts count_all(const Batch& batch, const Placement& placement, Backend backend) {
  const auto num_logical = static_cast<std::size_t>(placement.num_logical_experts);
  Counts counts{std::vector<Load>(batch.num_ranks * num_logical),
                std::vector<Load>(num_logical, 0)};
  for (std::size_t r = 0; r < batch.num_ranks; ++r) {
    const std::span<Load> row(counts.by_rank.data() + r * num_logical, num_logical);
    count_tokens(batch.rank(r), row, backend);
    for (std::size_t e = 0; e < num_logical; ++e) counts.total[e] += row[e];
  }
  return counts;
}

std::vector<std::int64_t> map_all(const Batch& batch, const Placement& placement,
                                  const Counts& counts, const Split& split, int threads,
                                  Backend backend) {
  std::vector<std::int64_t> physical(batch.ids.values.size());
  parallel_chunks(static_cast<std::int64_t>(batch.num_ranks), 1, threads,
                  [&](std::int64_t begin, std::int64_t end, int) {
                    for (std::int64_t r = begin; r < end; ++r) {
                      const auto rank = static_cast<std::size_t>(r);
                      map_tokens(placement, counts.by_rank, split.physical_load,
                                 static_cast<Index>(r), batch.rank(rank),
                                 {physical.data() + rank * batch.entries, batch.entries}, backend);
                    }
                  });
  return physical;
}

/// Compares the map with the split. This runs before anything is written.
void check_map(const Placement& placement, const Split& split,
               const std::vector<std::int64_t>& physical, const Batch& batch) {
  std::vector<Load> taken(split.physical_load.size(), 0);
  for (std::size_t i = 0; i < physical.size(); ++i) {
    const std::int64_t p = physical[i];
    const std::int64_t id = batch.ids.values[i];
    if (p < 0 ? id != -1 : placement.physical_to_logical[static_cast<std::size_t>(p)] != id) {
      throw InternalError(formatted("entry {} of expert {} went to slot {}", i, id, p));
    }
    if (p >= 0) ++taken[static_cast<std::size_t>(p)];
  }
  if (taken != split.physical_load) throw InternalError("the map does not meet the split's quotas");
}

void run(const PlanArguments& options) {
  const Outputs outputs(
      {{"--json", options.json}, {"--out", options.out}},
      {{"--placement", options.placement}, {"--topk", options.topk}, {"--cost", options.cost}});
  SolveOptions how;
  how.solver = parse_solver(options.solver);
  const BackendChoice backend(options.backend);
  how.backend = backend.backend();
  const std::vector<Placement> layers = io::read_placement(options.placement);
  if (layers.size() != 1) {
    throw FileError(options.placement, "key physical_to_logical",
                    formatted("has {} layers, expected one", layers.size()));
  }
  const Placement& placement = layers[0];
  const std::optional<CostModel> cost = read_cost(options.cost, placement.num_ranks);
  how.cost = cost ? &*cost : nullptr;
  const Batch batch = read_batch(options.topk, placement);
  const Counts counts = count_all(batch, placement, how.backend);
  const Split split = solve(placement, counts.total, how);
  check_split(placement, counts.total, split, how.cost);
  const std::vector<std::int64_t> physical =
      map_all(batch, placement, counts, split, options.threads, how.backend);
  check_map(placement, split, physical, batch);

  const Load planned = std::accumulate(counts.total.begin(), counts.total.end(), Load{0});
  const Locality local = count_local(placement, counts.by_rank, split.physical_load);
  nlohmann::ordered_json json;
  json["num_ranks"] = placement.num_ranks;
  json["num_logical_experts"] = placement.num_logical_experts;
  json["num_tokens"] = batch.ids.header.shape[1];
  json["num_topk"] = batch.ids.header.shape[2];
  json["planned"] = planned;
  json["dropped"] = static_cast<Load>(physical.size()) - planned;
  json["same_rank"] = local.same_rank;
  json["same_node"] = local.same_node;
  json["load"] = counts.total;
  const nlohmann::ordered_json split_part = split_json(placement, split);
  json.update(split_part);

  outputs.write(
      {options.json.empty() ? "" : io::json_text(json),
       io::npy_bytes(dtype_of_output(batch.ids.header), batch.ids.header.shape, physical)});
  if (!outputs.take_standard_output()) {
    Table table({"status", "max load", "lower bound", "imbalance", "planned", "dropped",
                 "same rank", "same node"});
    table.add(
        {status_name(split.status), level_text(json["max_load"]), level_text(json["lower_bound"]),
         formatted("{:.4f}", imbalance(placement, split.rank_load)), std::to_string(planned),
         json["dropped"].dump(), std::to_string(local.same_rank), std::to_string(local.same_node)});
    print(table.text());
  }
  backend.tell(1, split.backend == Backend::kCuda ? 1 : 0);
}

}  // namespace

void add_plan(CLI::App& program) {
  CLI::App* command =
      program.add_subcommand("plan",
                             "Plan one batch of all ranks: count its tokens, split them over "
                             "replicas, and map logical expert ids to physical ones");
  auto options = std::make_shared<PlanArguments>();
  add_text(*command, "--placement", kInput, kFile, options->placement,
           "Placement file of one layer")
      ->required();
  add_text(*command, "--topk", kInput, kFile, options->topk,
           ".npy file [num_ranks, num_tokens, num_topk], integers of any type; -1 is a dropped "
           "entry")
      ->required();
  add_cost(*command, options->cost);
  add_solver(*command, options->solver, kAllSolvers);
  add_backend(*command, options->backend);
  add_threads(*command, "--threads", options->threads,
              "Number of threads: how many ranks are mapped in parallel");
  add_text(*command, "--out", kOutput, kFile, options->out,
           ".npy file for the physical expert ids, with the same shape; int64 if --topk is, "
           "otherwise int32")
      ->required();
  add_json(*command, options->json);
  command->footer(
      "Example: lplb plan --placement placement.json --topk topk.npy --out physical.npy --json -");
  command->callback([options] { run(*options); });
}

}  // namespace lplb::app
