// SPDX-License-Identifier: MIT
#pragma once

#include <span>
#include <string>
#include <vector>

#include "lplb/types.h"

namespace lplb {

/// Which rank copies whose experts, inside a group of ranks: r2o[rank][column] is the rank whose
/// experts get a replica on `rank` (redundant to original). A column is a permutation of the group
/// without fixed points, so that each rank gives and takes one replica a column. An EP group of
/// several times `group_size` ranks is cut into consecutive groups that do not share load.
/// After the topologies of deepseek-ai/LPLB.
struct Topology {
  std::string name;        ///< as given to parse_topology(), for messages and reports
  Index group_size = 0;    ///< ranks in a group, 2 to kMaxRanks
  Index num_columns = 0;   ///< edges that lead to each rank, 1 to kMaxPhysical
  std::vector<Index> r2o;  ///< [group_size, num_columns], ranks inside the group

  Index original(Index rank, Index column) const { return r2o[rank * num_columns + column]; }
};

Topology cube();       ///< 8 ranks, two columns: faces and diagonals
Topology hypercube();  ///< 16 ranks, two columns, no diagonals
/// Rank i*columns+j copies from the next row (column 0: often the next node) and from the next rank
/// of its row (column 1). `rows` and `columns` are at least 2 (a line of one rank would make it
/// copy itself) and their product at most kMaxRanks. Of two rows or columns the ranks copy each
/// other.
Topology torus(Index rows, Index columns);
Topology ring(Index num_ranks);  ///< one column: rank g copies from g+1; 2 to kMaxRanks ranks
/// `r2o` [group_size, num_columns], row-major. Throws ArgumentError where a size is out of range, a
/// column is no permutation, or a rank would copy itself.
Topology custom_topology(std::span<const Index> r2o, Index group_size, Index num_columns,
                         std::string name = "r2o");

/// "cube", "hypercube", "torus:MxN", "ring:N", "r2o:FILE" (see docs/formats.md for the file).
/// Throws ArgumentError for an unknown name or a bad size, FileError for a bad file.
Topology parse_topology(const std::string& name);

}  // namespace lplb
