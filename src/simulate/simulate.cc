// SPDX-License-Identifier: MIT
#include "lplb/simulate.h"

#include <algorithm>
#include <deque>

#include "core/check.h"
#include "core/format.h"
#include "simulate/batcher.h"
#include "simulate/player.h"
#include "simulate/summary.h"

namespace lplb {
namespace {

using namespace replay;

constexpr Index kMaxWindow = 1 << 20;
constexpr int kMaxJobs = 1024;

/// How many batches are played at once: enough that all threads have work, and few enough that
/// memory stays small. A GPU needs many batches for each launch.
struct BlockLimits {
  std::size_t bytes;
  std::size_t batches;
};
constexpr BlockLimits kCpuBlock{std::size_t{16} << 20, 256};
constexpr BlockLimits kCudaBlock{std::size_t{256} << 20, 4096};

void check_options(const SimulateOptions& o) {
  check_argument(o.num_ranks >= 1 && o.num_ranks <= kMaxRanks, "num_ranks",
                 "{} is not between 1 and {}", o.num_ranks, kMaxRanks);
  check_argument(o.num_nodes >= 1 && o.num_ranks % o.num_nodes == 0, "num_nodes",
                 "{} does not divide num_ranks ({})", o.num_nodes, o.num_ranks);
  check_argument(o.num_groups >= 1, "num_groups", "{} is not >= 1", o.num_groups);
  check_argument(o.redundants >= 0 && o.redundants <= kMaxPhysical, "redundants",
                 "{} is not between 0 and {}", o.redundants, kMaxPhysical);
  check_argument(o.batch_tokens >= 0, "batch_tokens", "{} is not >= 0", o.batch_tokens);
  check_argument(o.window >= 1 && o.window <= kMaxWindow, "window", "{} is not between 1 and {}",
                 o.window, kMaxWindow);
  check_argument(o.rebalance_every >= 1, "rebalance_every", "{} is not >= 1", o.rebalance_every);
  check_argument(o.jobs >= 1 && o.jobs <= kMaxJobs, "jobs", "{} is not between 1 and {}", o.jobs,
                 kMaxJobs);
  check_argument(!o.policies.empty(), "policies", "is empty, expected at least one");
  for (auto name = o.policies.begin(); name != o.policies.end(); ++name) {
    check_argument(std::find(o.policies.begin(), name, *name) == name, "policies",
                   "\"{}\" is named twice", *name);
  }
}

void check_trace(const SimulateOptions& o, const TraceInfo& trace) {
  check_argument(trace.num_logical_experts % o.num_ranks == 0, "num_ranks",
                 "{} does not divide the {} experts of the trace", o.num_ranks,
                 trace.num_logical_experts);
  check_argument(
      trace.num_logical_experts + std::int64_t{o.redundants} * o.num_ranks <= kMaxPhysical,
      "redundants", "{} a rank make more than {} slots in all", o.redundants, kMaxPhysical);
}

/// The name of the trace in messages.
std::string file_of(const SimulateOptions& o) {
  return o.trace == "-" ? "standard input" : o.trace;
}

std::size_t block_size(const SimulateOptions& o, const TraceInfo& trace) {
  const std::size_t batch =
      sizeof(Load) * static_cast<std::size_t>(trace.num_layers) *
      static_cast<std::size_t>(o.num_ranks) *
      (static_cast<std::size_t>(trace.num_logical_experts) + o.policies.size());
  const BlockLimits& limits = o.backend == Backend::kCuda ? kCudaBlock : kCpuBlock;
  return std::clamp<std::size_t>(limits.bytes / batch, 1, limits.batches);
}

}  // namespace

SimulateReport simulate(const SimulateOptions& options) {
  check_options(options);
  SyntheticOptions synthetic = options.synthetic;
  synthetic.num_sources = options.num_ranks;
  const std::unique_ptr<TraceReader> reader = open_trace(options.trace, synthetic);
  const TraceInfo& trace = reader->info();
  check_trace(options, trace);

  SimulateReport report;
  report.trace = trace;
  report.settings = options;
  Player player(options, trace);
  Summary summary(options, trace);
  Batcher batcher(*reader, options.batch_tokens, options.num_ranks);
  const std::int64_t in_all = options.batch_tokens == 0 ? trace.num_steps : -1;
  const std::size_t block = block_size(options, trace);
  const auto window = static_cast<std::size_t>(options.window);
  std::deque<Batch> batches;  // first the window, then the block
  BlockOutcome outcome;
  std::int64_t done = 0;
  for (bool more = true; more;) {
    std::size_t count = 0;
    for (; more && count < block; ++count) {
      Batch batch;
      more = batcher.next(batch);
      if (!more) break;
      if (__builtin_add_overflow(report.num_tokens, batch.num_tokens, &report.num_tokens)) {
        throw FileError(file_of(options), formatted("batch {}", done + static_cast<Load>(count)),
                        "the tokens up to here pass 2^63 - 1");
      }
      batches.push_back(std::move(batch));
    }
    if (count == 0) break;
    player.play(batches, count, outcome);
    summary.add(outcome, player);
    while (batches.size() > window) batches.pop_front();
    for (Batch& past : batches) past.source_load = {};
    done += static_cast<std::int64_t>(count);
    if (options.progress) options.progress(done, in_all);
  }
  if (done == 0) throw FileError(file_of(options), "", "holds no steps");
  summary.finish(report);
  return report;
}

}  // namespace lplb
