// SPDX-License-Identifier: MIT
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "bench/workloads.h"
#include "lplb/planner.h"
#include "map/token_map.h"

// Benchmarks of one rank's fast loop on the CPU: 4096 tokens, top 8, int32. An item is an entry of
// topk_idx.
namespace lplb::bench {
namespace {

constexpr int kNumTokens = 4096;
constexpr int kTopk = 8;
constexpr int kNumDrawn = 8;  // how many batches take turns: 1 MiB of topk_idx

/// Rank 0's tokens, drawn with the workload's popularity, and the counts of every rank.
struct Batch {
  std::vector<std::int32_t> topk;
  std::vector<Load> counts;  // [num_ranks, num_logical]
  std::vector<Load> packed;  // [num_ranks, layout.size()]
  Split split;               // the split of these counts
};

Batch draw_batch(const Placement& p, const std::vector<Load>& popularity, std::uint64_t seed,
                 Singles singles) {
  const auto num_logical = popularity.size();
  std::vector<Load> until(num_logical);
  std::partial_sum(popularity.begin(), popularity.end(), until.begin());
  testing::SplitMix64 random(seed);
  Batch batch;
  for (int i = 0; i < kNumTokens * kTopk; ++i) {
    const Load at = random.between(1, until.back());
    const auto expert = std::lower_bound(until.begin(), until.end(), at) - until.begin();
    batch.topk.push_back(static_cast<std::int32_t>(expert));
  }
  batch.counts.resize(num_logical * static_cast<std::size_t>(p.num_ranks));
  std::vector<Load> sums(num_logical);
  count_tokens(batch.topk, std::span(batch.counts).first(num_logical));
  for (std::size_t i = 0; i < batch.counts.size(); ++i) {
    if (i >= num_logical) batch.counts[i] = popularity[i % num_logical] / p.num_ranks;
    sums[i % num_logical] += batch.counts[i];
  }
  const PackedLayout layout(p, singles);
  batch.packed.resize(layout.size() * static_cast<std::size_t>(p.num_ranks));
  for (Index g = 0; g < p.num_ranks; ++g) {
    layout.pack(std::span(batch.counts).subspan(g * num_logical, num_logical),
                std::span(batch.packed).subspan(g * layout.size(), layout.size()));
  }
  batch.split = solve(p, sums);
  return batch;
}

std::vector<Batch> draw_batches(const testing::Workload& w, Singles singles = Singles::kSummed) {
  std::vector<Batch> batches;
  for (int i = 0; i < kNumDrawn; ++i)
    batches.push_back(draw_batch(w.placement, w.loads[i], i, singles));
  return batches;
}

/// An exchange that delivers packed counts that were made before. It costs one copy.
class PreparedCounts : public Exchange {
 public:
  explicit PreparedCounts(Index num_ranks) : num_ranks_(num_ranks) {}
  Index num_ranks() const override { return num_ranks_; }
  Index rank() const override { return 0; }
  void reserve(std::size_t) override {}
  void post(const PackedLayout&, std::span<const Load>) override {}
  ExchangeStatus collect(std::span<Load> all) override {
    std::copy(next->begin(), next->end(), all.begin());
    return ExchangeStatus::kComplete;
  }

  const std::vector<Load>* next = nullptr;

 private:
  Index num_ranks_;
};

void count_items(benchmark::State& state) {
  state.SetItemsProcessed(state.iterations() * kNumTokens * kTopk);
}

// count/WORKLOAD
void count(benchmark::State& state, const std::string& name) {
  const testing::Workload& w = workload(name);
  const std::vector<Batch> batches = draw_batches(w);
  std::vector<Load> load(static_cast<std::size_t>(w.placement.num_logical_experts));
  std::size_t i = 0;
  for (auto _ : state) {
    count_tokens(batches[i].topk, load);
    benchmark::DoNotOptimize(load.data());
    i = (i + 1) % batches.size();
  }
  count_items(state);
}

// map/WORKLOAD: maps as the planner does, from packed counts and with memory that is used again.
void map_batch(benchmark::State& state, const std::string& name) {
  const Placement& p = workload(name).placement;
  const std::vector<Batch> batches = draw_batches(workload(name));
  const PackedLayout layout(p);
  const auto stride = static_cast<std::ptrdiff_t>(layout.size());
  map::TokenMap token_map;
  std::vector<std::int32_t> physical(batches[0].topk.size());
  std::size_t i = 0;
  for (auto _ : state) {
    const Batch& batch = batches[i];
    token_map.assign_exactly(p, {batch.packed.data(), stride, layout.column.data()},
                             batch.split.physical_load.data(), 0);
    token_map.apply<std::int32_t>(batch.topk, physical);
    benchmark::DoNotOptimize(physical.data());
    i = (i + 1) % batches.size();
  }
  count_items(state);
}

// plan/WORKLOAD: Planner::run() without a real transport; with dynamic slots "+dynamic:S".
void plan_with(benchmark::State& state, const std::string& name, Index dynamic_slots) {
  const Placement& p = workload(name).placement;
  const std::vector<Batch> batches =
      draw_batches(workload(name), dynamic_slots > 0 ? Singles::kEach : Singles::kSummed);
  auto exchange = std::make_shared<PreparedCounts>(p.num_ranks);
  PlannerOptions options;
  options.max_tokens = kNumTokens;
  options.num_topk = kTopk;
  options.dynamic_slots = dynamic_slots;
  Planner planner(p, 0, options, exchange);
  std::vector<std::int32_t> physical(batches[0].topk.size());
  std::size_t i = 0;
  for (auto _ : state) {
    exchange->next = &batches[i].packed;
    planner.run(batches[i].topk, physical);
    benchmark::DoNotOptimize(physical.data());
    i = (i + 1) % batches.size();
  }
  if (dynamic_slots == 0 && planner.stats().optimal != planner.stats().batches) {
    state.SkipWithError("a batch was not optimal");
  }
  if (!std::ranges::all_of(physical, [](std::int32_t id) { return id >= 0; })) {
    state.SkipWithError("a token was lost");
  }
  count_items(state);
}

void plan(benchmark::State& state, const std::string& name) { plan_with(state, name, 0); }
void plan_copies(benchmark::State& state, const std::string& name) { plan_with(state, name, 1); }

bool register_all() {
  for (const char* name : {"cube8x2", "hypercube16x2", "EP64+64", "EP128+128"}) {
    const auto add = [&](const std::string& stage, auto* run, const char* ending = "") {
      benchmark::RegisterBenchmark((stage + "/" + name + ending).c_str(), run, name)
          ->Unit(benchmark::kMicrosecond);
    };
    add("count", count);
    add("map", map_batch);
    add("plan", plan);
    add("plan", plan_copies, "+dynamic:1");
  }
  return true;
}

[[maybe_unused]] const bool registered = register_all();

}  // namespace
}  // namespace lplb::bench
