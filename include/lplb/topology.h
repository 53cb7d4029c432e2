// SPDX-License-Identifier: MIT
#pragma once

#include <span>
#include <string>
#include <vector>

#include "lplb/export.h"
#include "lplb/types.h"

namespace lplb {

/// Which rank copies whose experts, within a group of ranks. `r2o[rank][column]` (redundant to
/// original) is the rank whose experts get a replica on `rank`. A column is a permutation of the
/// group without fixed points, so in each column every rank gives one replica and takes one. If the
/// EP group has several times `group_size` ranks, it is cut into consecutive groups that do not
/// share load. The topologies come from deepseek-ai/LPLB.
struct Topology {
  std::string name;        ///< as parse_topology() takes it; for messages and reports
  Index group_size = 0;    ///< ranks in a group, 2 to kMaxRanks
  Index num_columns = 0;   ///< edges that lead to a rank, 1 to kMaxPhysical
  std::vector<Index> r2o;  ///< [group_size, num_columns]: ranks of the group

  Index original(Index rank, Index column) const { return r2o[rank * num_columns + column]; }
};

LPLB_API Topology cube();       ///< 8 ranks, two columns: faces and diagonals
LPLB_API Topology hypercube();  ///< 16 ranks, two columns, no diagonals
/// A torus in two columns. In column 0, rank i * columns + j copies from the same place of the next
/// row (often the next node). In column 1, it copies from the next rank of its own row. `rows` and
/// `columns` must be at least 2, because otherwise a rank would copy itself; their product at most
/// kMaxRanks. If one of them is 2, the ranks of that direction copy each other. Throws
/// ArgumentError.
LPLB_API Topology torus(Index rows, Index columns);
LPLB_API Topology LPLB_API
ring(Index num_ranks);  ///< one column: rank g copies from g + 1; 2 to kMaxRanks
/// A topology of your own, from `r2o` [group_size, num_columns]. Throws ArgumentError if a size is
/// out of range, a column is not a permutation, or a rank would copy itself.
LPLB_API Topology custom_topology(std::span<const Index> r2o, Index group_size, Index num_columns,
                                  std::string name = "r2o");

/// The topology with this name: "cube", "hypercube", "torus:MxN", "ring:N" or "r2o:FILE"
/// (docs/formats.md describes the file). Throws ArgumentError for an unknown name or a bad size,
/// and FileError for a bad file.
LPLB_API Topology parse_topology(const std::string& name);

}  // namespace lplb
