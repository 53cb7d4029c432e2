// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "lplb/controller.h"
#include "lplb/cost.h"
#include "lplb/export.h"
#include "lplb/solver.h"
#include "lplb/trace.h"
#include "lplb/types.h"

namespace lplb {

/// "none", "eplb" and "eplb+lplb": what simulate() compares if it is not told.
LPLB_API std::vector<std::string> default_policies();

struct SimulateOptions {
  std::string trace;                ///< a file, or "synthetic:NAME"
  SyntheticOptions synthetic = {};  ///< only for "synthetic:NAME"
  Index num_ranks = 8;
  Index num_nodes = 1;
  Index num_groups = 1;  ///< expert groups of the router; EPLB is hierarchical if nodes divide them
  Index redundants = 2;  ///< redundant slots of each rank; not used if num_replicas is given
  /// All slots of a layer: a multiple of num_ranks, at least the experts of the trace. 0: the
  /// experts and `redundants` on each rank. This needs num_ranks to divide the experts.
  Index num_replicas = 0;
  /// "none", "eplb", "eplb+lplb", "eplb+stale", the last three also with "eplb-spread"
  /// and "eplb-keep", "homes+even", "homes+lplb", "homes+stale", these also with "moving-homes",
  /// "controller+even", "controller+lplb", "controller+time",
  /// "TOPOLOGY+even", "TOPOLOGY+lplb", "TOPOLOGY+stale", "file:PATH", "file:PATH+even",
  /// "file:PATH+lplb", "file:PATH+stale". With `cost` also "none", each "eplb...", "homes",
  /// "TOPOLOGY" and "file:PATH" with "+time". "none", and in place of each "+lplb", also with
  /// "+dynamic:S": copies of experts for each batch in S dynamic slots a rank (replicate.h), S from
  /// 1 to kMaxDynamicSlots; with `cost` also "+dynamic:S:time", which splits over them by cost.
  /// parse_topology() has the topologies, docs/traces.md the meaning. Empty: default_policies(),
  /// without "none" if num_ranks does not divide the experts.
  std::vector<std::string> policies = {};  // NOLINT(readability-redundant-member-init)
  /// 0: batches are the steps as recorded. N: a step of `tokens` >= 2N is cut into floor(tokens /
  /// N) pieces that differ by at most one token. Then consecutive steps and pieces of one domain
  /// are merged until a batch holds at least N tokens; only a domain's last batch may hold fewer. A
  /// routing is cut by tokens, exactly. Loads without a routing are cut in proportion; the pieces
  /// add up to the step.
  std::int64_t batch_tokens = 0;
  std::int64_t skip_steps = 0;  ///< the first steps of the trace, which are not read at all
  /// Leaves out the tokens that SimulateReport::repeats is about. The trace must have a recorded
  /// routing, and is read twice.
  bool drop_repeats = false;
  /// The first batches, which are replayed and fill the window, but are in no figure.
  std::int64_t warm_up = 0;
  Index window = 8;           ///< how many past batches a placement is made from
  Index rebalance_every = 1;  ///< batches between two placements
  /// How the controllers of the policies "controller+SPLIT" decide; they take the window and the
  /// cost of the replay, and `rebalance_every` is not for them. If it is set, "controller+lplb"
  /// (with `cost`: "controller+time") is replayed unless another controller is, and every policy
  /// has PolicyReport::charged.
  std::optional<ControllerOptions> controller = {};  // NOLINT(readability-redundant-member-init)
  /// The solver of exact splits by tokens; not kTime, which the "+time" policies take.
  Solver solver = Solver::kAuto;
  /// What tokens cost: one table, or one for each of num_ranks. Every policy then has
  /// PolicyReport::cost, and each placement's batches are solved by cost too.
  std::optional<CostModel> cost = {};  // NOLINT(readability-redundant-member-init)
  /// The file of `cost`, which the page's command names. Empty: "cost.json".
  std::string cost_file = {};  // NOLINT(readability-redundant-member-init)
  /// kCuda: the batches of a layer between two placements are solved in one launch, up to 4096 at
  /// once. Batches that the device cannot take are solved on the CPU (see SolveOptions::backend).
  /// The report is the same, except for solve_us and num_cuda_solves. A launch takes about 40 us
  /// even for few batches, so with a placement for each batch the CPU is faster.
  Backend backend = Backend::kCpu;
  int num_threads = 1;  ///< only times depend on it
  /// The bytes of one expert's weights in one layer; 0: not known. With it the report says how many
  /// bytes a rebalance moves, and copies for a batch.
  std::int64_t expert_bytes = 0;
  // How policies with "+dynamic:S" choose copies: ReplicateOptions has the ranges.
  double copy_target = 1;    ///< ReplicateOptions::target
  Load copy_min_tokens = 1;  ///< ReplicateOptions::min_tokens
  Index copy_domains = 1;    ///< ReplicateOptions::num_domains
  /// What a rank sends and receives, each way, in units of 1e9 bytes a second; 0: not known. If it
  /// is given, costs include the time for which the busiest rank sends or receives copies, as far
  /// as nothing hides it. This needs expert_bytes, and a cost in "us".
  double copy_gigabytes_per_s = 0;
  double copy_hidden_us = 0;  ///< for how long the copies of a layer travel behind other work
  /// Called with (batches done, all batches) in the calling thread, between blocks of batches: on
  /// the CPU a few times a second, unless a batch takes longer. -1: their number is not known. An
  /// exception ends the replay and comes out of simulate().
  std::function<void(std::int64_t, std::int64_t)> progress = nullptr;
};

/// Mean, percentiles and maximum. A percentile is interpolated linearly between the two nearest
/// sorted values, which is NumPy's default.
struct Distribution {
  double mean = 0, p50 = 0, p95 = 0, p99 = 0, max = 0;
};

/// What the slowest rank of a layer costs, in the unit of the cost model. Over the pairs of
/// PolicyReport::imbalance.
struct CostReport {
  Distribution max;  ///< the largest cost of a rank, and what copying costs
  /// The largest cost of a rank / the proven lower bound for the policy's own placement, minus 1.
  /// With "+dynamic:S:time" the bound is for the copies that were made. With "+dynamic:S" none is
  /// known, and these are NaN.
  double gap_mean = 0;
  double gap_max = 0;
  std::vector<double> layer_mean;  ///< [num_layers]: the mean of `max` in each layer
};

/// Copies of experts for each batch. Over the pairs of PolicyReport::imbalance.
struct CopyReport {
  double mean = 0;             ///< copies of a pair, on all ranks together
  double mean_bytes = 0;       ///< their bytes; 0 without SimulateOptions::expert_bytes
  std::int64_t max = 0;        ///< the most
  double busiest_mean = 0;     ///< the most copies that one rank of a pair sends or receives
  double exposed_us_mean = 0;  ///< time of copying that nothing hides; 0 without a bandwidth
};

/// A controller's decision to rebalance a layer.
struct ReplayedDecision {
  std::int64_t batch = 0;  ///< the first with the new placement
  Index layer = 0;         ///< of the trace, from 0
  RebalanceDecision decision;
};

/// The results of one policy. A pair is a (batch, layer). Pairs without tokens, and those of the
/// first `warm_up` batches, are in no figure. A mean over no pair is NaN.
struct PolicyReport {
  std::string name;
  Distribution imbalance;  ///< imbalance() of all pairs, with equal weights
  /// max_load / lower_bound - 1, with the proven bound for the policy's own placement. Other splits
  /// than exact ones are compared with the exact split of the same placement, and splits with
  /// copies with what no choice of copies can beat.
  double gap_mean = 0;
  double gap_max = 0;
  std::optional<CostReport> cost;    ///< empty without SimulateOptions::cost
  std::optional<CopyReport> copies;  ///< only with "+dynamic:S"
  std::int64_t solves = 0;           ///< pairs with a solved split: exact, by time, or with copies
  std::int64_t optimal = 0;          ///< of these, proven optimal
  /// Microseconds of a solve; with "+dynamic:S" of the choice of copies and the split. On kCuda: of
  /// a launch with its copies, divided by its batches. All 0 if `solves` is 0.
  Distribution solve_us;
  /// Placements after the first one, over all layers. A layer whose window has no tokens keeps its
  /// placement, which is no rebalance.
  std::int64_t rebalances = 0;
  /// Experts whose weights a rank must get from another rank, for each rebalance and layer: the
  /// moves of plan_moves() between ranks.
  double moved_experts_mean = 0;
  std::int64_t moved_experts = 0;  ///< the same, over all rebalances and layers
  /// With SimulateOptions::controller: the rounds of all moves (schedule()), and the mean with
  /// round_cost for each: (loads of the slowest ranks + moves) / mean loads of the ranks, summed
  /// over all pairs; with a cost model the mean cost of a pair.
  std::int64_t rounds = 0;
  std::optional<double> charged;
  std::vector<ReplayedDecision> decisions;  ///< of a controller, but for those to keep
  /// The part of all tokens that stays on its own rank (see count_local()). Empty if the trace does
  /// not tell where tokens are. It does so by source_load, or by a routing, whose tokens are cut
  /// into num_ranks consecutive blocks.
  std::optional<double> local_share;

  std::vector<double> layer_mean;  ///< [num_layers]: the mean imbalance of each layer
  std::vector<double> layer_max;   ///< [num_layers]: the largest
  std::vector<double> over_time;   ///< [num_buckets]: mean imbalance over layers, in order of time
  std::vector<double> rank_heat;   ///< [num_ranks, num_buckets]: rank load / mean
  std::vector<double> layer_over_time;  ///< [num_layers, num_buckets]: over_time of each layer
  /// [num_layers, num_ranks, num_buckets]: rank_heat of each layer. Empty if num_layers * num_ranks
  /// is above 2048.
  std::vector<double> layer_rank_heat;

  /// [num_layers]: the placement that a rebalance right after the last batch would make, from the
  /// last `window` batches. It is the one to deploy.
  std::vector<Placement> next_placement;
};

/// Tokens that choose the very same experts in all layers as more than a tenth of all tokens. They
/// are probably padding or warm-up.
struct RepeatedTokens {
  Index num_choices = 0;        ///< how many different choices of experts these tokens have
  std::int64_t num_tokens = 0;  ///< how many of the trace's tokens make one of these choices
  double share = 0;             ///< num_tokens / all tokens, before any are dropped
};

/// Consecutive batches of one kind of text.
struct DomainStart {
  std::int64_t first_batch = 0;
  std::string name;
};

struct SimulateReport {
  TraceInfo trace;
  SimulateOptions settings;  ///< with the num_replicas and the policies that were used
  std::int64_t num_batches = 0;
  std::int64_t num_tokens = 0;       ///< tokens of all batches
  std::int64_t num_pairs = 0;        ///< (batch, layer) pairs that are in the figures
  std::int64_t num_empty_pairs = 0;  ///< pairs without tokens, after the warm-up
  /// Steps without a routing that `batch_tokens` cut in proportion. Their pieces are smoother than
  /// recorded batches of this size: they have more active experts.
  std::int64_t num_cut_loads = 0;
  /// Empty if no tokens repeat so often, or the trace has no recorded routing.
  std::optional<RepeatedTokens> repeats;
  /// The policies of default_policies() that were left out, because they cannot take the ranks.
  std::vector<std::string> left_out;
  /// (batch, layer, placement), with a cost twice: by tokens and by cost. Policies may share one.
  /// Without the plans of "+dynamic:S", which are always made on the CPU, and without what only
  /// such policies would need.
  std::int64_t num_solves = 0;
  std::int64_t num_cuda_solves = 0;  ///< of these, on the device; not in the JSON
  /// The first batch of each bucket of time. There are at most 128 buckets; each has the same
  /// number of batches, a power of two, but the last one may have fewer.
  std::vector<std::int64_t> bucket_start;
  std::vector<DomainStart> domains;  ///< in order of time; empty if the trace names no domain
  /// [num_layers, num_logical]: the tokens of each expert in the batches that the figures are of.
  std::vector<double> expert_load;
  std::vector<PolicyReport> policies;  ///< in the order of SimulateOptions::policies
};

/// Replays a trace through policies, each of which places the experts and splits the batches. A
/// placement is made only from the `window` batches before it, or from uniform load if there are
/// none; then no two replicas of an expert share a rank. The split of a batch is made from the
/// batch itself, unless the policy is stale; so are copies. "file:PATH" replays a placement file as
/// it is, with its dead ranks and speeds: one layer for all layers of the trace, or one for each.
///
/// Memory holds the window and the batches that are played at once (16 MiB of loads, with kCuda 256
/// MiB, but at least one batch), and grows by a few bytes for each (batch, layer, policy).
///
/// Throws ArgumentError if an option is out of range or does not fit the trace, FileError for a bad
/// trace, and CudaError if kCuda cannot be used.
LPLB_API SimulateReport simulate(const SimulateOptions& options);

/// The report as JSON (docs/traces.md; `lplb simulate --json`), and as one self-contained HTML
/// page. The page shows `command` as the command that made it.
LPLB_API std::string report_json(const SimulateReport& report);
LPLB_API std::string report_html(const SimulateReport& report, const std::string& command);

/// next_placement as a placement file (docs/formats.md). Throws ArgumentError, which names `policy`
/// and lists what was replayed, if the report has no policy of this name.
LPLB_API std::string placement_json(const SimulateReport& report, const std::string& policy);

}  // namespace lplb
