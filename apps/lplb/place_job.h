// SPDX-License-Identifier: MIT
#pragma once

#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "io/files.h"
#include "lplb/backend.h"
#include "lplb/placement.h"
#include "lplb/simulate.h"

namespace lplb::app {

/// The options of `lplb place`.
struct PlaceOptions {
  std::string load;
  SimulateOptions trace;                        ///< what read_trace_load() reads of it
  std::int64_t window = 0;                      ///< of the trace
  std::vector<std::pair<Index, Index>> layers;  ///< ranges, both ends included; empty: all
  std::string from;
  std::string policy = "eplb";
  std::optional<Index> num_ranks;
  std::optional<Index> num_nodes;
  std::optional<Index> num_replicas;
  std::optional<Index> redundants;
  std::optional<std::vector<Index>> dead_ranks;
  std::vector<double> rank_speed;
  Index num_groups = 1;
  bool spread = false;
  bool keep_slots = false;
  bool keep_ranks = false;
  bool move_homes = false;
  std::optional<Index> dynamic_slots;
  std::optional<std::int64_t> max_moves;
  std::optional<std::int64_t> max_bytes;
  std::optional<std::int64_t> expert_bytes;
  std::optional<std::int64_t> budget;  ///< trials of the search for homes' replicas
  double budget_seconds = std::numeric_limits<double>::infinity();
  int threads = 1;
  std::string backend = "cpu";
  std::string json;
};

/// What the options and the files say together.
struct PlaceJob {
  io::Matrix<double> load;  ///< [layers, num_logical]
  /// With policy homes: the batches of a trace [layers, num_logical]; empty: `load` is the only
  /// one.
  std::vector<std::vector<Load>> batches;
  std::vector<Index> layers;    ///< the model's numbers of the layers; empty if no file has them
  std::string load_text;        ///< what the table says about the load of a trace
  std::vector<Placement> from;  ///< a placement for each layer; empty without --from
  std::optional<Topology> topology;
  Index num_ranks = 0;
  Index num_logical = 0;
  Backend backend = Backend::kCpu;  ///< where homes are searched
  PlacementOptions group;           ///< nodes, speeds and dead ranks of the new placement
};

/// Whether layer `i` of the load has any.
bool has_tokens(const PlaceJob& job, std::size_t i);

/// Whether layer `i` stays as it is: its load is empty, and the old placement is of the same shape,
/// ranks and nodes as the new one.
bool stays(const PlaceJob& job, std::size_t i, Index num_physical);

/// The policy whose experts have homes.
inline constexpr const char* kHomes = "homes";

/// The file that the load comes from.
const std::string& source_of(const PlaceOptions& options);

/// Reads the files, and completes the options from them. Throws ArgumentError or FileError.
PlaceJob read_place_job(const PlaceOptions& options);

/// What was chosen.
struct PlaceResult {
  ExpertMaps maps;
  std::vector<double> exact;  ///< with policy homes: HomesPlacement::imbalance; otherwise empty
  std::string exact_name = "exact split";  ///< the column that the table shows it in
  std::string refused;  ///< why --backend auto searched homes on the CPU, if there is a GPU
};

/// Places the layers. Throws ArgumentError or FileError.
PlaceResult place(const PlaceOptions& options, const PlaceJob& job);

}  // namespace lplb::app
