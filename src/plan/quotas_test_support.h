// SPDX-License-Identifier: MIT
#pragma once

#include <vector>

#include "plan/device/cuda_test_support.h"

// The tables of DevicePlanner::write_quotas(), for a comparison with those of the CPU.
namespace lplb::testing {

/// The quotas of a batch. All entries are -9 at first, to show what was not written.
struct HostTables {
  std::vector<std::int32_t> quota_end, source_prefix, alloc, solved, replicas;
  std::vector<float> shares;

  HostTables(const Placement& p, Index max_replicas)
      : quota_end(static_cast<std::size_t>(p.num_logical_experts * max_replicas), -9),
        source_prefix(static_cast<std::size_t>(p.num_logical_experts), -9),
        alloc(static_cast<std::size_t>(p.num_ranks * p.num_logical_experts), -9),
        solved(1, -9),
        replicas(quota_end.size(), -9),
        shares(quota_end.size(), -9) {}
  QuotaOutputs outputs(Index max_replicas) {
    return {max_replicas,  quota_end.data(), source_prefix.data(), alloc.data(),
            shares.data(), solved.data(),    replicas.data()};
  }
  bool operator==(const HostTables&) const = default;
};

/// What the planner writes for the last batch that `device` ran.
inline HostTables from_device(DeviceRank& device, Index max_replicas) {
  const Placement& p = device.planner.placement();
  HostTables host(p, max_replicas);
  DeviceVector<std::int32_t> quota_end, source_prefix, alloc, solved, replicas;
  DeviceVector<float> shares;
  quota_end.set(host.quota_end);
  source_prefix.set(host.source_prefix);
  alloc.set(host.alloc);
  solved.set(host.solved);
  replicas.set(host.replicas);
  shares.set(host.shares);
  device.planner.write_quotas(device.stream.get(), device.batch.all_counts,
                              {max_replicas, quota_end.data(), source_prefix.data(), alloc.data(),
                               shares.data(), solved.data(), replicas.data()});
  LPLB_CUDA_CHECK(cudaStreamSynchronize(device.stream.get()));
  host.quota_end = quota_end.get();
  host.source_prefix = source_prefix.get();
  host.alloc = alloc.get();
  host.solved = solved.get();
  host.replicas = replicas.get();
  host.shares = shares.get();
  return host;
}

}  // namespace lplb::testing
