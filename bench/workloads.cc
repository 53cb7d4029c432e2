// SPDX-License-Identifier: MIT
#include "bench/workloads.h"

#include <map>
#include <nlohmann/json.hpp>

namespace lplb::bench {

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

}  // namespace lplb::bench
