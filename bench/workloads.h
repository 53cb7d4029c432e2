// SPDX-License-Identifier: MIT
#pragma once

#include <string>

#include "support/instances.h"

namespace lplb::bench {

/// Batches that a split benchmark rotates through: enough that no branch is learned by heart.
inline constexpr int kNumBatches = 64;

/// make_workload(name, kNumBatches), made once a process.
const testing::Workload& workload(const std::string& name);

/// All workloads: {"workloads": [{"name", "placement", "load"}]}, the latter two as the command
/// reads them (docs/formats.md). For solvers that are measured from outside this program.
std::string workloads_json();

}  // namespace lplb::bench
