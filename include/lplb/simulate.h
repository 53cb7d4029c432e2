// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "lplb/solver.h"
#include "lplb/trace.h"
#include "lplb/types.h"

namespace lplb {

struct SimulateOptions {
  std::string trace;                ///< a file or "synthetic:NAME"
  SyntheticOptions synthetic = {};  ///< for the latter
  Index num_ranks = 8;
  Index num_nodes = 1;
  Index num_groups = 1;  ///< the router's expert groups: EPLB is hierarchical if nodes divide them
  Index redundants = 2;  ///< replica slots a rank
  /// "none", "eplb", "eplb+lplb", "TOPOLOGY+even", "TOPOLOGY+lplb" (see parse_topology()).
  std::vector<std::string> policies = {"none", "eplb", "eplb+lplb"};
  /// 0: steps as recorded. N: a step of 2N tokens or more is cut into floor(tokens / N) pieces that
  /// differ by a token at most; then consecutive steps and pieces of one domain are merged until a
  /// batch holds at least N tokens (a domain's last batch may hold fewer). A routing is cut by
  /// rows, exactly; loads alone are cut in proportion, and add up to the step's.
  std::int64_t batch_tokens = 0;
  Index window = 8;           ///< past batches that a placement is made from
  Index rebalance_every = 1;  ///< batches between two placements
  Solver solver = Solver::kAuto;
  /// kCuda: a layer's batches between two placements are solved in one launch, up to 4096. The
  /// report is the same but for solve_us and num_cuda_solves. What the device does not take is
  /// solved on the CPU (see SolveOptions::backend). A launch takes some 40 us however few batches
  /// it has: with a placement for each batch the CPU is quicker.
  Backend backend = Backend::kCpu;
  int jobs = 1;  ///< threads; figures other than times do not depend on it
  /// Called from one thread at a time with (batches done, batches in all or -1 while unknown).
  std::function<void(std::int64_t, std::int64_t)> progress = nullptr;
};

/// Percentiles are linear between the two nearest of the sorted values, as NumPy's default.
struct Distribution {
  double mean = 0, p50 = 0, p95 = 0, p99 = 0, max = 0;
};

struct PolicyReport {
  std::string name;
  Distribution imbalance;  ///< max / mean rank load over all (batch, layer) pairs, equal weights
  /// max_load / proven bound of the policy's own placement, minus 1; even splits are held against
  /// the exact split of the same placement.
  double gap_mean = 0;
  double gap_max = 0;
  std::int64_t solves = 0;   ///< (batch, layer) pairs that were split by solving (even: 0)
  std::int64_t optimal = 0;  ///< of these, proven optimal
  /// Microseconds a solve, on kCuda a launch's (with the copies there and back) over its batches;
  /// all 0 where solves is 0.
  Distribution solve_us;
  std::int64_t rebalances = 0;  ///< placements made after the first, over all layers
  /// Experts whose weights a rank must fetch from another, a rebalance and layer: the entries of
  /// plan_moves() that leave their rank.
  double moved_experts_mean = 0;
  std::int64_t moved_experts = 0;  ///< in all
  /// Tokens that stay on their own rank (see count_local()) over all tokens, where the trace tells
  /// homes: by its routing, whose rows are cut into num_ranks consecutive blocks, or by
  /// source_load.
  std::optional<double> local_share;

  std::vector<double> layer_mean;  ///< [num_layers]: mean imbalance of a layer
  std::vector<double> layer_max;   ///< [num_layers]
  std::vector<double> over_time;   ///< [num_buckets]: mean imbalance over layers, time in order
  std::vector<double> rank_heat;   ///< [num_ranks, num_buckets]: rank load / mean rank load
};

struct SimulateReport {
  TraceInfo trace;
  SimulateOptions settings;
  std::int64_t num_batches = 0;
  std::int64_t num_tokens = 0;
  std::int64_t num_solves = 0;       ///< (batch, layer, placement) triples: policies share them
  std::int64_t num_cuda_solves = 0;  ///< of these, on the device; not in the JSON
  /// First batch of each time bucket: at most 128 buckets of equally many batches (a power of two;
  /// the last may have fewer).
  std::vector<std::int64_t> bucket_start;
  std::vector<PolicyReport> policies;  ///< in the order asked for
};

/// Replays a trace through placement and split policies. Causal: the placement of a batch is made
/// from the `window` batches before it (from uniform load while there are none), the split from the
/// batch itself. Streams: memory holds the window and what is played at once (16 MiB of loads, on
/// kCuda 256 MiB; a batch at least), and grows by a few bytes a (batch, layer, policy).
/// Throws ArgumentError (settings that do not fit the trace), FileError (the trace), and CudaError
/// where kCuda cannot be used.
SimulateReport simulate(const SimulateOptions& options);

/// The report as the JSON of docs/traces.md (`lplb simulate --json`), and as one self-contained
/// HTML page. `command` is shown as what made it.
std::string report_json(const SimulateReport& report);
std::string report_html(const SimulateReport& report, const std::string& command);

}  // namespace lplb
