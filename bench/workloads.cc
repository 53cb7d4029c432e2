// SPDX-License-Identifier: MIT
#include "bench/workloads.h"

#include <algorithm>
#include <limits>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>

#include "core/check.h"
#include "core/format.h"
#include "lplb/placement.h"
#include "simulate/batcher.h"

namespace lplb::bench {
namespace {

constexpr std::size_t kPlacedFrom = 8;  // a placement is made from so many batches

/// A way to place the experts of a trace.
struct Shape {
  const char* name;
  const char* topology;  // empty: EPLB
  Index num_ranks;
  Index redundants;  // of each rank
};
constexpr Shape kShapes[] = {
    {"cube8x2", "cube", 8, 2},
    {"hypercube16x2", "hypercube", 16, 2},
    {"torus8x4x2", "torus:8x4", 32, 2},
    {"EP32+32", "", 32, 1},
    {"EP64+64", "", 64, 1},
};

bool fits(const Shape& shape, Index num_logical) {
  return num_logical % shape.num_ranks == 0 && shape.redundants * shape.num_ranks <= num_logical;
}

/// The batches of a trace: [num_layers][num_batches][num_logical].
struct Recording {
  Index num_logical = 0;
  std::vector<std::vector<std::vector<Load>>> layers;
};

Recording read_recording(const std::string& trace) {
  const std::unique_ptr<TraceReader> reader = open_trace(trace);
  replay::Batcher batcher(*reader, kRecordedTokens, 1);
  Recording recording;
  std::size_t count = 0;
  for (replay::Batch batch; batcher.next(batch); ++count) {
    recording.num_logical = reader->info().num_logical_experts;
    recording.layers.resize(static_cast<std::size_t>(reader->info().num_layers));
    const auto experts = static_cast<std::ptrdiff_t>(recording.num_logical);
    auto load = batch.load.begin();
    for (auto& layer : recording.layers) {
      layer.emplace_back(load, load + experts);
      check_argument(
          std::accumulate(load, load + experts, 0.0) <= std::numeric_limits<std::int32_t>::max(),
          "--trace", "batch {} has more than 2^31 - 1 tokens in a layer", count);
      load += experts;
    }
  }
  check_argument(count > kPlacedFrom, "--trace",
                 "{} holds {} batches of {} tokens, expected more than {}", trace, count,
                 kRecordedTokens, kPlacedFrom);
  return recording;
}

Placement place(const Shape& shape, Index num_logical, const std::vector<double>& load) {
  const Index num_physical = num_logical + shape.redundants * shape.num_ranks;
  const ExpertMaps maps =
      *shape.topology == '\0'
          ? rebalance_experts(load, 1, num_logical, num_physical, 1, 1, shape.num_ranks)
          : place_on_topology(load, 1, num_logical, parse_topology(shape.topology),
                              shape.redundants, shape.num_ranks);
  return make_placement(shape.num_ranks, num_logical, maps.physical_to_logical);
}

/// Makes one workload for each layer, with `num_batches` batches in all, or fewer if the trace has
/// fewer.
std::vector<testing::Workload> workloads_of(const Recording& recording, const Shape& shape,
                                            int num_batches) {
  const std::size_t layers = recording.layers.size();
  const std::size_t most = (static_cast<std::size_t>(num_batches) + layers - 1) / layers;
  std::vector<testing::Workload> workloads;
  for (const auto& batches : recording.layers) {
    std::vector<double> past(static_cast<std::size_t>(recording.num_logical), 0.0);
    for (std::size_t i = 0; i < kPlacedFrom; ++i) {
      std::transform(past.begin(), past.end(), batches[i].begin(), past.begin(),
                     [](double sum, Load w) { return sum + static_cast<double>(w); });
    }
    const auto begin = batches.begin() + kPlacedFrom;
    const std::size_t count = std::min(most, batches.size() - kPlacedFrom);
    workloads.push_back({shape.name,
                         place(shape, recording.num_logical, past),
                         {begin, begin + static_cast<std::ptrdiff_t>(count)}});
  }
  return workloads;
}

}  // namespace

const testing::Workload& workload(const std::string& name) {
  static std::map<std::string, testing::Workload> made;
  auto found = made.find(name);
  if (found == made.end()) {
    found = made.emplace(name, testing::make_workload(name, kNumBatches)).first;
  }
  return found->second;
}

std::string workloads_json() {
  nlohmann::json all = nlohmann::json::array();
  for (const std::string& name : testing::workload_names()) {
    const testing::Workload& w = workload(name);
    all.push_back({{"name", name},
                   {"placement",
                    {{"num_ranks", w.placement.num_ranks},
                     {"num_logical_experts", w.placement.num_logical_experts},
                     {"physical_to_logical", w.placement.physical_to_logical}}},
                   {"load", w.loads}});
  }
  return nlohmann::json{{"workloads", all}}.dump() + "\n";
}

std::vector<Case> synthetic_cases() {
  std::vector<Case> cases;
  for (const auto& names : {testing::workload_names(), testing::hard_workload_names()}) {
    for (const std::string& name : names) {
      cases.push_back({name, [name](int num_batches) {
                         return std::vector{testing::make_workload(name, num_batches)};
                       }});
    }
  }
  return cases;
}

std::vector<Case> recorded_cases(const std::string& trace) {
  const auto recording = std::make_shared<const Recording>(read_recording(trace));
  std::vector<Case> cases;
  for (const Shape& shape : kShapes) {
    if (!fits(shape, recording->num_logical)) continue;
    cases.push_back({std::string("recorded:") + shape.name, [recording, shape](int num_batches) {
                       return workloads_of(*recording, shape, num_batches);
                     }});
  }
  return cases;
}

bool is_shape(const Case& c, std::string_view shape) {
  return std::string_view(c.name).substr(c.name.find(':') + 1) == shape;
}

bool is_hard(const Case& c) { return c.name.starts_with("mild:") || c.name.starts_with("skew:"); }

bool is_only_hard(const Case& c) {
  const std::vector<std::string> names = testing::workload_names();
  return is_hard(c) &&
         std::ranges::none_of(names, [&](const std::string& name) { return is_shape(c, name); });
}

std::regex parse_filter(const std::string& filter) try {
  return std::regex(filter, std::regex_constants::extended);
} catch (const std::regex_error&) {
  throw ArgumentError("--filter", formatted("\"{}\" is not a regular expression", filter));
}

}  // namespace lplb::bench
