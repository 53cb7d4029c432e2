// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <span>
#include <vector>

#include "core/parallel.h"
#include "lplb/placement.h"

namespace lplb::placement {

/// Computes logical_to_physical from physical_to_logical and `ordinal` [num_layers, num_physical].
inline void invert(const std::vector<Index>& ordinal, ExpertMaps& maps) {
  maps.max_replicas = *std::max_element(maps.replica_count.begin(), maps.replica_count.end());
  const auto max_replicas = static_cast<std::size_t>(maps.max_replicas);
  const auto num_physical = static_cast<std::size_t>(maps.num_physical);
  maps.logical_to_physical.assign(maps.replica_count.size() * max_replicas, -1);
  Index* row = maps.logical_to_physical.data();
  for (std::size_t first = 0; first < ordinal.size(); first += num_physical) {
    for (std::size_t p = 0; p < num_physical; ++p) {
      const auto e = static_cast<std::size_t>(maps.physical_to_logical[first + p]);
      row[e * max_replicas + ordinal[first + p]] = static_cast<Index>(p);
    }
    row += maps.num_logical * max_replicas;
  }
}

/// Runs a copy of `placer` on each layer of `load` [num_layers, num_logical], on several threads.
/// Placer::run(load, logical, ordinal, count) is that of LayerBalancer.
template <class Placer>
ExpertMaps place_layers(std::span<const double> load, Index num_layers, Index num_logical,
                        Index num_physical, const Placer& placer, int num_threads) {
  ExpertMaps maps{.num_layers = num_layers,
                  .num_physical = num_physical,
                  .num_logical = num_logical,
                  .max_replicas = 0,
                  .physical_to_logical = {},
                  .logical_to_physical = {},
                  .replica_count = {}};
  const auto logical = static_cast<std::size_t>(num_logical);
  const auto physical = static_cast<std::size_t>(num_physical);
  maps.physical_to_logical.resize(num_layers * physical);
  maps.replica_count.resize(num_layers * logical);
  std::vector<Index> ordinal(num_layers * physical);

  std::vector<Placer> placers(std::min<std::size_t>(num_threads, num_layers), placer);
  parallel_chunks(num_layers, 1, static_cast<int>(placers.size()),
                  [&](std::int64_t begin, std::int64_t end, int thread) {
                    for (auto layer = static_cast<std::size_t>(begin);
                         layer < static_cast<std::size_t>(end); ++layer) {
                      placers[thread].run(
                          load.subspan(layer * logical, logical),
                          std::span(maps.physical_to_logical).subspan(layer * physical, physical),
                          std::span(ordinal).subspan(layer * physical, physical),
                          std::span(maps.replica_count).subspan(layer * logical, logical));
                    }
                  });
  invert(ordinal, maps);
  return maps;
}

}  // namespace lplb::placement
