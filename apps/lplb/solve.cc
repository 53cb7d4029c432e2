// SPDX-License-Identifier: MIT

#include <algorithm>
#include <iterator>
#include <memory>
#include <optional>

#include "backend.h"
#include "commands.h"
#include "core/format.h"
#include "core/parallel.h"
#include "io/files.h"
#include "io/text.h"
#include "lplb/solver.h"
#include "options.h"
#include "outputs.h"
#include "rows.h"
#include "split_json.h"

namespace lplb::app {
namespace {

struct SolveArguments {
  std::string placement;
  std::string load;
  std::string solver = "auto";
  std::string backend = "cpu";
  std::string cost;
  int threads = 1;
  std::string json;
};

std::vector<Split> solve_all(const SolveArguments& options, Backend backend, const CostModel* cost,
                             const Rows& rows) {
  const std::vector<SplitProblem> problems(rows.layers.begin(), rows.layers.end());
  SolveOptions how;
  how.solver = parse_solver(options.solver);
  how.backend = backend;
  how.cost = cost;
  std::vector<Split> splits(rows.count());
  std::vector<Workspace> workspaces(static_cast<std::size_t>(options.threads));
  parallel_chunks(static_cast<std::int64_t>(rows.count()), kRowsAtOnce, options.threads,
                  [&](std::int64_t begin, std::int64_t end, int thread) {
                    for (auto i = static_cast<std::size_t>(begin);
                         i < static_cast<std::size_t>(end); ++i) {
                      solve(problems[rows.layer_of(i)], rows[i], splits[i],
                            workspaces[static_cast<std::size_t>(thread)], how);
                      check_split(rows.placement(i), rows[i], splits[i], cost);
                    }
                  });
  return splits;
}

/// The table of a split by cost: the largest cost, its bound, and what the gap is on average.
std::string cost_table_of(const std::vector<Split>& splits, const std::string& unit) {
  Table table({"row", "status", "max cost", "lower bound", "gap", "active experts"});
  std::size_t optimal = 0;
  double sum = 0;
  for (std::size_t i = 0; i < splits.size(); ++i) {
    const SplitCost& cost = splits[i].cost;
    const double gap = cost.bound > 0 ? cost.max_cost / cost.lower_bound - 1 : 0;
    optimal += splits[i].status == SolveStatus::kOptimal ? 1 : 0;
    sum += gap;
    if (i >= kTableRows) continue;
    table.add({std::to_string(i), status_name(splits[i].status), formatted("{:.1f}", cost.max_cost),
               formatted("{:.1f}", cost.lower_bound), formatted("{:.2f}%", 100 * gap),
               std::to_string(
                   *std::max_element(cost.active_experts.begin(), cost.active_experts.end()))});
  }
  std::string text = table.text();
  if (splits.size() > kTableRows) {
    text += formatted("... and {} rows more\n", splits.size() - kTableRows);
  }
  return text + formatted("{} of {} proven optimal; mean gap {:.2f}%; costs in {}\n", optimal,
                          splits.size(), 100 * sum / static_cast<double>(splits.size()),
                          io::printable(unit));
}

std::string table_of(const Rows& rows, const std::vector<Split>& splits,
                     const nlohmann::ordered_json& results) {
  Table table({"row", "status", "max load", "lower bound", "imbalance"});
  std::size_t optimal = 0;
  Imbalances imbalances;
  for (std::size_t i = 0; i < splits.size(); ++i) {
    const std::string cell =
        imbalances.add(imbalance(rows.placement(i), splits[i].rank_load), rows.has_tokens(i));
    optimal += splits[i].status == SolveStatus::kOptimal ? 1 : 0;
    if (i >= kTableRows) continue;
    table.add({std::to_string(i), status_name(splits[i].status), level_text(results[i]["max_load"]),
               level_text(results[i]["lower_bound"]), cell});
  }
  std::string text = table.text();
  if (splits.size() > kTableRows) {
    text += formatted("... and {} rows more\n", splits.size() - kTableRows);
  }
  return text + formatted("{} of {} proven optimal; imbalance mean {}, worst {}{}\n", optimal,
                          splits.size(), imbalances.mean(), imbalances.worst(),
                          imbalances.empty_text("row"));
}

void run(const SolveArguments& options) {
  const Outputs outputs(
      {{"--json", options.json}},
      {{"--placement", options.placement}, {"--load", options.load}, {"--cost", options.cost}});
  parse_solver(options.solver);
  const BackendChoice backend(options.backend);
  const Rows rows = read_rows(options.placement, options.load);
  const std::optional<CostModel> cost = read_cost(options.cost, rows.layers[0].num_ranks);
  const std::vector<Split> splits =
      solve_all(options, backend.backend(), cost ? &*cost : nullptr, rows);

  nlohmann::ordered_json json;
  json["num_ranks"] = rows.layers[0].num_ranks;
  json["results"] = nlohmann::ordered_json::array();
  for (std::size_t i = 0; i < splits.size(); ++i) {
    json["results"].push_back(split_json(rows.placement(i), splits[i]));
  }
  outputs.write({options.json.empty() ? "" : io::json_text(json)});
  if (!outputs.take_standard_output()) {
    print(cost ? cost_table_of(splits, cost->unit()) : table_of(rows, splits, json["results"]));
  }
  backend.tell(std::ssize(splits), std::count_if(splits.begin(), splits.end(), [](const Split& s) {
                 return s.backend == Backend::kCuda;
               }));
}

}  // namespace

void add_solve(CLI::App& program) {
  CLI::App* command = program.add_subcommand("solve",
                                             "Split loads over the replicas of a placement so that "
                                             "the slowest rank has as little load as possible");
  auto options = std::make_shared<SolveArguments>();
  add_text(*command, "--placement", kInput, kFile, options->placement,
           "Placement file. If it has one layer, that serves every row of the load file; otherwise "
           "layer i serves row i")
      ->required();
  add_text(*command, "--load", kInput, kFile, options->load,
           "Load file: the tokens of each expert, one row for each batch or layer")
      ->required();
  add_cost(*command, options->cost);
  add_solver(*command, options->solver, kAllSolvers);
  add_backend(*command, options->backend);
  add_threads(*command, "--threads", options->threads,
              "Number of threads: how many rows are solved in parallel");
  add_json(*command, options->json);
  command->footer("Example: lplb solve --placement placement.json --load load.json --json -");
  command->callback([options] { run(*options); });
}

}  // namespace lplb::app
