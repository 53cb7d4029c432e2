// SPDX-License-Identifier: MIT
#pragma once

#include <string>
#include <vector>

#include "lplb/simulate.h"

namespace lplb::testing {

inline const std::vector<std::string> kPolicies = {"none", "eplb", "eplb+lplb", "cube+even",
                                                   "cube+lplb"};

/// A replay of kPolicies on a synthetic trace whose hot experts change.
inline SimulateOptions small_replay() {
  SimulateOptions options;
  options.trace = "synthetic:W6_rotating_hotspot";
  options.synthetic.num_logical_experts = 32;
  options.synthetic.num_topk = 4;
  options.synthetic.num_layers = 3;
  options.synthetic.num_steps = 20;
  options.synthetic.num_tokens = 128;
  options.policies = kPolicies;
  return options;
}

}  // namespace lplb::testing
