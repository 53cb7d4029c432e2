// SPDX-License-Identifier: MIT
#include "lplb/simulate.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <deque>

#include "core/check.h"
#include "core/format.h"
#include "io/files.h"
#include "lplb/replicate.h"
#include "simulate/batch_facts.h"
#include "simulate/batcher.h"
#include "simulate/player.h"
#include "simulate/selection.h"
#include "simulate/summary.h"
#include "simulate/trace_load.h"

namespace lplb {
namespace {

using namespace replay;

constexpr const char* kNone = "none";
constexpr Index kMaxWindow = 1 << 20;
constexpr int kMaxThreads = 1024;

/// How many batches are played at once: enough that all threads have work, and few enough that
/// memory stays small. A GPU needs many batches for each launch.
struct BlockLimits {
  std::size_t bytes;
  std::size_t batches;
};
constexpr BlockLimits kCpuBlock{std::size_t{16} << 20, 256};
constexpr BlockLimits kCudaBlock{std::size_t{256} << 20, 4096};

/// On the CPU blocks grow from kFirstBlock batches, and shrink if they take longer than kLongBlock,
/// so that `progress` is called often enough to show something and to cancel the replay.
using Clock = std::chrono::steady_clock;
constexpr std::size_t kFirstBlock = 8;
constexpr auto kLongBlock = std::chrono::milliseconds(250);

void check_copies(const SimulateOptions& o) {
  const auto is_size = [](double value) { return std::isfinite(value) && value >= 0; };
  check_argument(o.copy_target >= 1 && o.copy_target <= kMaxCopyTarget, "copy_target",
                 "{} is not between 1 and {}", o.copy_target, kMaxCopyTarget);
  check_argument(o.copy_min_tokens >= 1, "copy_min_tokens", "{} is not >= 1", o.copy_min_tokens);
  check_argument(o.copy_domains >= 1 && o.num_ranks % o.copy_domains == 0, "copy_domains",
                 "{} does not divide num_ranks ({})", o.copy_domains, o.num_ranks);
  check_argument(is_size(o.copy_gigabytes_per_s), "copy_gigabytes_per_s",
                 "{} is not a finite number >= 0", o.copy_gigabytes_per_s);
  check_argument(is_size(o.copy_hidden_us), "copy_hidden_us", "{} is not a finite number >= 0",
                 o.copy_hidden_us);
  if (o.copy_gigabytes_per_s == 0) return;
  check_argument(o.expert_bytes > 0, "copy_gigabytes_per_s",
                 "{} needs the bytes of an expert, expected expert_bytes > 0",
                 o.copy_gigabytes_per_s);
  check_argument(o.cost && o.cost->unit() == "us", "copy_gigabytes_per_s",
                 "{} needs a cost model in \"us\", to which the time of copying is added",
                 o.copy_gigabytes_per_s);
}

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
  check_argument(o.num_threads >= 1 && o.num_threads <= kMaxThreads, "num_threads",
                 "{} is not between 1 and {}", o.num_threads, kMaxThreads);
  check_argument(o.num_replicas >= 0 && o.num_replicas <= kMaxPhysical, "num_replicas",
                 "{} is not between 0 and {}", o.num_replicas, kMaxPhysical);
  check_argument(o.skip_steps >= 0, "skip_steps", "{} is not >= 0", o.skip_steps);
  check_argument(o.warm_up >= 0, "warm_up", "{} is not >= 0", o.warm_up);
  check_argument(o.expert_bytes >= 0, "expert_bytes", "{} is not >= 0", o.expert_bytes);
  check_copies(o);
  check_argument(o.solver != Solver::kTime, "solver",
                 "\"time\" is the split of policies that end in \"+time\", expected a solver of "
                 "exact splits");
  if (o.cost && o.cost->tables().size() != 1) {
    check_argument(o.cost->tables().size() == static_cast<std::size_t>(o.num_ranks), "cost",
                   "has {} tables, expected one, or num_ranks ({})", o.cost->tables().size(),
                   o.num_ranks);
  }
  for (auto name = o.policies.begin(); name != o.policies.end(); ++name) {
    check_argument(std::find(o.policies.begin(), name, *name) == name, "policies",
                   "\"{}\" is named twice", *name);
  }
}

/// The options with the policies to replay, and with all slots of a layer in num_replicas. It is 0
/// if no policy needs it, and if the ranks do not divide the experts and it was not given.
SimulateOptions resolved(const SimulateOptions& options, const TraceInfo& trace) {
  SimulateOptions o = options;
  const Index experts = trace.num_logical_experts;
  const bool divides = experts % o.num_ranks == 0;
  if (o.policies.empty()) {
    o.policies = default_policies();
    if (!divides) std::erase(o.policies, kNone);
  }
  const auto is_controller = [](const auto& name) { return name.starts_with("controller+"); };
  if (o.controller && std::ranges::none_of(o.policies, is_controller)) {
    o.policies.emplace_back(o.cost ? "controller+time" : "controller+lplb");
  }
  if (std::ranges::all_of(o.policies, [](const auto& name) { return name.starts_with("file:"); })) {
    o.num_replicas = 0;
  } else if (o.num_replicas > 0) {
    check_argument(o.num_replicas % o.num_ranks == 0 && o.num_replicas >= experts, "num_replicas",
                   "{} is not a multiple of num_ranks ({}) that holds the {} experts of the "
                   "trace; {}",
                   o.num_replicas, o.num_ranks, experts, fitting_slots(experts, o.num_ranks));
  } else if (divides) {
    const Index most = (kMaxPhysical - experts) / o.num_ranks;
    check_argument(o.redundants <= most, "redundants",
                   "{} a rank make more than {} slots in all, expected at most {}", o.redundants,
                   kMaxPhysical, most);
    o.num_replicas = experts + o.redundants * o.num_ranks;
  }
  return o;
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

std::vector<std::string> default_policies() { return {kNone, "eplb", "eplb+lplb"}; }

SimulateReport simulate(const SimulateOptions& options) {
  check_options(options);
  SyntheticOptions synthetic = options.synthetic;
  synthetic.num_sources = options.num_ranks;
  Selection reader(options, synthetic);
  const TraceInfo& trace = reader.info();

  SimulateReport report;
  report.trace = trace;
  report.settings = resolved(options, trace);
  if (options.policies.empty() && report.settings.policies.front() != kNone) {
    report.left_out = {kNone};
  }
  Player player(report.settings, trace);
  Summary summary(report.settings, trace);
  BatchFacts facts(options.warm_up);
  Batcher batcher(reader, options.batch_tokens, options.num_ranks);
  const std::int64_t in_all = options.batch_tokens == 0 ? trace.num_steps : -1;
  const std::size_t most = block_size(report.settings, trace);
  std::size_t block =
      std::min(most, report.settings.backend == Backend::kCuda ? most : kFirstBlock);
  const auto window = static_cast<std::size_t>(options.window);
  std::deque<Batch> batches;  // first the window, then the block
  BlockOutcome outcome;
  std::int64_t done = 0;
  for (bool more = true; more;) {
    const auto begun = Clock::now();
    std::size_t count = 0;
    for (; more && count < block; ++count) {
      Batch batch;
      more = batcher.next(batch);
      if (!more) break;
      if (__builtin_add_overflow(report.num_tokens, batch.num_tokens, &report.num_tokens)) {
        throw FileError(file_of(options), formatted("batch {}", done + static_cast<Load>(count)),
                        "the tokens up to here pass 2^63 - 1");
      }
      facts.add(batch);
      batches.push_back(std::move(batch));
    }
    if (count == 0) break;
    player.play(batches, count, outcome);
    summary.add(outcome, player);
    while (batches.size() > window) batches.pop_front();
    for (Batch& past : batches) past.source_load = {};
    done += static_cast<std::int64_t>(count);
    if (report.settings.backend == Backend::kCpu) {
      const bool slow = Clock::now() - begun > kLongBlock;
      block = slow ? std::max<std::size_t>(1, block / 4) : std::min(most, 2 * block);
    }
    if (options.progress) options.progress(done, in_all);
  }
  check_argument(done > 0 || reader.num_read() == 0, "skip_steps",
                 "{} leaves none of the {} steps of {}", options.skip_steps, reader.num_read(),
                 file_of(options));
  if (done == 0) throw FileError(file_of(options), "", "holds no steps");
  check_argument(options.warm_up < done, "warm_up", "{} leaves none of the {} batches of {}",
                 options.warm_up, done, file_of(options));
  summary.finish(report);
  facts.finish(report);
  if (report.num_pairs == 0) {
    throw FileError(file_of(options), "", "holds no tokens in the batches that the figures are of");
  }
  report.num_cut_loads = batcher.num_cut_loads();
  report.repeats = reader.repeats();
  for (std::size_t i = 0; i < report.policies.size(); ++i) {
    report.policies[i].next_placement = player.next_placement(i, batches);
  }
  return report;
}

std::string placement_json(const SimulateReport& report, const std::string& policy) {
  std::string known;
  for (const PolicyReport& replayed : report.policies) {
    if (replayed.name == policy) {
      return io::placement_json(replayed.next_placement, layer_numbers(report.trace));
    }
    known += (known.empty() ? "" : ", ") + replayed.name;
  }
  throw ArgumentError("policy",
                      formatted("\"{}\" was not replayed, expected one of {}", policy, known));
}

}  // namespace lplb
