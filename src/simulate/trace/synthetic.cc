// SPDX-License-Identifier: MIT
#include <algorithm>
#include <array>
#include <numeric>

#include "core/check.h"
#include "core/format.h"
#include "core/mix.h"
#include "simulate/trace/readers.h"

// The workloads of the imbalance benchmark that was proposed to NVIDIA Megatron-LM (pull request
// 7488). The pools of experts that tokens choose from are those of the benchmark. The random
// generator is our own and gives the same numbers on every platform.
namespace lplb {
namespace replay {
namespace {

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}

  std::uint64_t next() { return mix(state_ += 0x9E3779B97F4A7C15u); }

  /// A number in [0, n), from the upper 32 bits. The method is Lemire's (2019) without the
  /// rejection: the bias is below 2^-19 for the few thousand experts that there can be.
  Index below(Index n) {
    return static_cast<Index>(((next() >> 32) * static_cast<std::uint64_t>(n)) >> 32);
  }

 private:
  std::uint64_t state_;
};

/// Makes a random stream of its own for each (name, seed, step, layer): FNV-1a over the name, then
/// mixing.
Random make_stream(std::string_view name, std::uint64_t seed, std::int64_t step, Index layer) {
  std::uint64_t hash = 0xCBF29CE484222325u;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3u;
  for (const auto part :
       {seed, static_cast<std::uint64_t>(step), static_cast<std::uint64_t>(layer)}) {
    hash = Random(hash ^ part).next();
  }
  return Random(hash);
}

/// The pools that the tokens of one step choose from.
struct Pools {
  std::vector<Index> hot;   // ids; empty: every token chooses from `rest`
  std::vector<Index> rest;  // ids that the other tokens choose from
  bool round_robin = false;
  /// Whether token `t` chooses from `hot`.
  bool (*is_hot)(std::int64_t t) = nullptr;
};

std::vector<Index> range(Index begin, Index end) {
  std::vector<Index> ids(static_cast<std::size_t>(std::max(end - begin, 0)));
  std::iota(ids.begin(), ids.end(), begin);
  return ids;
}

/// A quarter of the experts, but at least num_topk. It starts at `turn` times that number and wraps
/// around.
std::vector<Index> hot_block(const SyntheticOptions& o, std::int64_t turn) {
  const Index width = std::max(o.num_topk, o.num_logical_experts / 4);
  std::vector<Index> ids = range(0, width);
  const auto base = static_cast<Index>(turn * width % o.num_logical_experts);
  for (Index& id : ids) id = (base + id) % o.num_logical_experts;
  return ids;
}

bool three_in_four(std::int64_t t) { return t % 4 != 0; }
bool every_other(std::int64_t t) { return t % 2 == 0; }

Pools balanced(const SyntheticOptions& o, std::int64_t) {
  return {{}, range(0, o.num_logical_experts), true, nullptr};
}

Pools hot_set(const SyntheticOptions& o, std::int64_t) {
  return {hot_block(o, 0), range(0, o.num_logical_experts), false, three_in_four};
}

Pools spread_hot_set(const SyntheticOptions& o, std::int64_t) {
  Pools pools{{}, range(0, o.num_logical_experts), false, three_in_four};
  for (Index id = 0; id < o.num_logical_experts; id += 2) pools.hot.push_back(id);
  if (pools.hot.size() < static_cast<std::size_t>(o.num_topk)) pools.hot = pools.rest;
  return pools;
}

Pools uniform(const SyntheticOptions& o, std::int64_t) {
  return {{}, range(0, o.num_logical_experts), false, nullptr};
}

Pools upper_half(const SyntheticOptions& o, std::int64_t) {
  return {{}, range(o.num_logical_experts / 2, o.num_logical_experts), false, nullptr};
}

Pools rotating(const SyntheticOptions& o, std::int64_t step) {
  return {hot_block(o, step / 3), range(0, o.num_logical_experts), false, three_in_four};
}

Pools burst(const SyntheticOptions& o, std::int64_t step) {
  if (step % 4 != 3) return uniform(o, step);
  return {hot_block(o, 0), range(0, o.num_logical_experts), false, every_other};
}

struct Workload {
  const char* name;
  Pools (*pools)(const SyntheticOptions&, std::int64_t step);
  bool ragged = false;  ///< source ranks hold tokens in proportion to 1, 2, ..., num_sources
};

/// To add a workload, add one function, and one line here.
constexpr std::array kWorkloads = {
    Workload{"W0_balanced", balanced},
    Workload{"W1_hot_expert_set", hot_set},
    Workload{"W2_hot_rank", hot_set},
    Workload{"W3_spread_hot_experts", spread_hot_set},
    Workload{"W4_source_ragged", uniform, true},
    Workload{"W5_zero_expert_rank", upper_half},
    Workload{"W6_rotating_hotspot", rotating},
    Workload{"W7_burst", burst},
};

class SyntheticTrace : public TraceReader {
 public:
  SyntheticTrace(const Workload& workload, const SyntheticOptions& options)
      : workload_(workload), options_(options) {
    info_.name = std::string("synthetic:") + workload.name;
    info_.format = "synthetic";
    info_.synthetic = true;
    info_.num_layers = options.num_layers;
    info_.num_logical_experts = options.num_logical_experts;
    info_.num_topk = options.num_topk;
    info_.num_steps = options.num_steps;
    taken_.assign(static_cast<std::size_t>(options.num_logical_experts), -1);
    const auto pool = workload.pools(options, 0).rest.size();
    check_argument(options.num_topk >= 1 && static_cast<std::size_t>(options.num_topk) <= pool,
                   "synthetic.num_topk",
                   "{} is not between 1 and the {} experts that {} chooses "
                   "from",
                   options.num_topk, pool, workload.name);
  }

  const TraceInfo& info() const override { return info_; }

  bool next(TraceStep& step) override {
    if (step_ == options_.num_steps) return false;
    step.step = step_;
    step.domain.clear();
    step.num_tokens = options_.num_tokens;
    step.source_load.clear();
    const auto experts = static_cast<std::size_t>(options_.num_logical_experts);
    const auto row = static_cast<std::size_t>(options_.num_layers * options_.num_topk);
    step.load.assign(static_cast<std::size_t>(options_.num_layers) * experts, 0);
    step.topk_idx.resize(static_cast<std::size_t>(options_.num_tokens) * row);
    const Pools pools = workload_.pools(options_, step_);
    for (Index layer = 0; layer < options_.num_layers; ++layer) {
      Random random = make_stream(workload_.name, options_.seed, step_, layer);
      Load* load = step.load.data() + static_cast<std::size_t>(layer) * experts;
      Index* ids = step.topk_idx.data() + static_cast<std::size_t>(layer * options_.num_topk);
      for (std::int64_t t = 0; t < options_.num_tokens; ++t, ids += row) {
        if (pools.round_robin) {
          deal(t, ids);
        } else {
          choose(pools.is_hot != nullptr && pools.is_hot(t) ? pools.hot : pools.rest, random, ids);
        }
        for (Index k = 0; k < options_.num_topk; ++k) ++load[ids[k]];
      }
    }
    set_sources(step);
    ++step_;
    return true;
  }

 private:
  /// Chooses num_topk distinct ids of `pool`. Every set of ids is equally likely (Floyd's sampling:
  /// Bentley, Floyd: "A sample of brilliance", 1987).
  void choose(const std::vector<Index>& pool, Random& random, Index* ids) {
    const auto size = static_cast<Index>(pool.size());
    ++stamp_;
    for (Index last = size - options_.num_topk; last < size; ++last) {
      Index pick = random.below(last + 1);
      if (taken_[pick] == stamp_) pick = last;
      taken_[pick] = stamp_;
      *ids++ = pool[pick];
    }
  }

  void deal(std::int64_t t, Index* ids) const {
    for (Index k = 0; k < options_.num_topk; ++k) {
      ids[k] = static_cast<Index>((t * options_.num_topk + k) % options_.num_logical_experts);
    }
  }

  void set_sources(TraceStep& step) const {
    step.source_tokens.clear();
    if (!workload_.ragged) return;
    const std::int64_t sources = options_.num_sources;
    const std::int64_t shares = sources * (sources + 1) / 2;
    std::int64_t before = 0;
    for (std::int64_t r = 1; r <= sources; ++r) {
      const std::int64_t until = options_.num_tokens * (r * (r + 1) / 2) / shares;
      step.source_tokens.push_back(until - before);
      before = until;
    }
  }

  const Workload& workload_;
  SyntheticOptions options_;
  TraceInfo info_;
  std::int64_t step_ = 0;
  std::vector<std::int64_t> taken_;  // [num_logical]: last draw that took this entry of the pool
  std::int64_t stamp_ = 0;
};

void check_options(const SyntheticOptions& o) {
  constexpr std::int64_t kMaxSteps = std::int64_t{1} << 40;
  constexpr std::int64_t kMaxIds = std::int64_t{1} << 30;  // ids of one step: 4 GiB
  check_argument(o.num_logical_experts >= 1 && o.num_logical_experts <= kMaxPhysical,
                 "synthetic.num_logical_experts", "{} is not between 1 and {}",
                 o.num_logical_experts, kMaxPhysical);
  check_argument(o.num_topk >= 1 && o.num_topk <= o.num_logical_experts, "synthetic.num_topk",
                 "{} is not between 1 and num_logical_experts ({})", o.num_topk,
                 o.num_logical_experts);
  check_argument(o.num_steps >= 1 && o.num_steps <= kMaxSteps, "synthetic.num_steps",
                 "{} is not between 1 and {}", o.num_steps, kMaxSteps);
  check_argument(o.num_sources >= 1 && o.num_sources <= kMaxRanks, "synthetic.num_sources",
                 "{} is not between 1 and {}", o.num_sources, kMaxRanks);
  check_argument(o.num_layers >= 1 && o.num_layers <= kMaxLayers, "synthetic.num_layers",
                 "{} is not between 1 and {}", o.num_layers, kMaxLayers);
  const std::int64_t most = kMaxIds / (std::int64_t{o.num_layers} * o.num_topk);
  check_argument(o.num_tokens >= 1 && o.num_tokens <= most, "synthetic.num_tokens",
                 "{} is not between 1 and {}", o.num_tokens, most);
}

}  // namespace

std::unique_ptr<TraceReader> open_synthetic(const std::string& name,
                                            const SyntheticOptions& options) {
  for (const Workload& workload : kWorkloads) {
    if (name != workload.name) continue;
    check_options(options);
    return std::make_unique<SyntheticTrace>(workload, options);
  }
  std::string known;
  for (const Workload& workload : kWorkloads) {
    known += formatted("{}synthetic:{}", known.empty() ? "" : ", ", workload.name);
  }
  throw ArgumentError("trace",
                      formatted("\"synthetic:{}\" is unknown, expected one of {}", name, known));
}

}  // namespace replay

std::vector<std::string> synthetic_names() {
  std::vector<std::string> names;
  names.reserve(replay::kWorkloads.size());
  for (const replay::Workload& workload : replay::kWorkloads) names.emplace_back(workload.name);
  return names;
}

}  // namespace lplb
