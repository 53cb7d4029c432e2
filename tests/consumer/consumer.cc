// SPDX-License-Identifier: MIT
// The program of a user: it places experts, splits a batch, checks the certificate, plans the
// tokens of a rank, and keeps its data in files.
#include <lplb/lplb.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <memory>
#include <vector>

namespace {

constexpr lplb::Index kRanks = 8;
constexpr lplb::Index kExperts = 32;
constexpr lplb::Index kTopk = 4;

void expect(bool holds, const char* what) {
  if (holds) return;
  std::cerr << "not so: " << what << '\n';
  std::exit(1);
}

lplb::Placement place(const std::vector<lplb::Load>& load) {
  const std::vector<double> past(load.begin(), load.end());
  const lplb::ExpertMaps maps = lplb::place_on_topology(past, 1, kExperts, lplb::cube(), 2, kRanks);
  return lplb::make_placement(kRanks, kExperts, maps.layer(0), {.num_nodes = 2});
}

}  // namespace

int main() {
  std::vector<lplb::Load> load(kExperts);
  for (lplb::Index expert = 0; expert < kExperts; ++expert) load[expert] = 4000 / (1 + expert);
  const lplb::Placement placement = place(load);

  const lplb::Split split = lplb::solve(placement, load);
  expect(split.status == lplb::SolveStatus::kOptimal, "the split is optimal");
  expect(lplb::verify_split(placement, load, split).empty(), "the split proves what it says");

  std::vector<lplb::Load> even(static_cast<std::size_t>(placement.num_physical()));
  lplb::split_evenly(placement, load, even);
  std::vector<lplb::Load> even_load(kRanks);
  for (lplb::Index slot = 0; slot < placement.num_physical(); ++slot) {
    even_load[placement.rank_of(slot)] += even[slot];
  }
  expect(lplb::imbalance(split.rank_load) <= lplb::imbalance(even_load), "no even split is better");

  const auto exchange = std::make_shared<lplb::GivenCounts>(kRanks, 3);
  std::vector<lplb::Load> counts(kRanks * kExperts);
  exchange->set(counts, kExperts);
  lplb::Planner planner(placement, 3, {.max_tokens = 64, .num_topk = kTopk}, exchange);
  std::vector<std::int32_t> topk_idx(64 * kTopk);
  for (std::size_t i = 0; i < topk_idx.size(); ++i) topk_idx[i] = static_cast<int>(i % kExperts);
  std::vector<std::int32_t> physical_idx(topk_idx.size());
  expect(planner.run(topk_idx, physical_idx) == lplb::BatchStatus::kOptimal, "the batch is solved");
  for (std::size_t i = 0; i < topk_idx.size(); ++i) {
    expect(placement.physical_to_logical[physical_idx[i]] == topk_idx[i],
           "each token is sent to a replica of its expert");
  }

  const std::filesystem::path path =
      std::filesystem::temp_directory_path() / ("lplb-consumer-" + std::to_string(getpid()));
  lplb::write_placement_file({{placement}, {}}, path);
  expect(lplb::read_placement_file(path).placements[0] == placement, "a placement file is read");
  lplb::write_load_file({kExperts, load, {}}, path);
  expect(lplb::read_load_file(path).load == load, "a load file is read");
  lplb::TraceInfo info;
  info.num_layers = 1;
  info.num_logical_experts = kExperts;
  info.num_topk = kTopk;
  std::vector<lplb::TraceStep> steps(1);
  steps[0].load = load;
  lplb::write_trace_file(info, steps, path);
  expect(lplb::read_trace_file(path)[0].load == load, "a trace is read");
  std::filesystem::remove(path);

  try {
    lplb::parse_solver("no such solver");
    expect(false, "a bad name is refused");
  } catch (const lplb::ArgumentError& error) {
    expect(std::string(error.what()).find("no such solver") != std::string::npos,
           "the error shows the name");
  }
  std::printf("lplb %s: max load %.0f, imbalance %.3f, even %.3f\n", lplb::version(),
              split.max_load, lplb::imbalance(split.rank_load), lplb::imbalance(even_load));
}
