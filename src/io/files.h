// SPDX-License-Identifier: MIT
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "io/json.h"
#include "lplb/placement.h"
#include "lplb/types.h"

// The files of docs/formats.md. read_...() takes a path ("-" is standard input), parse_...() the
// file's text; `path` is then only named in messages. All throw FileError.
namespace lplb::io {

/// {"load": [[...], ...]}, shape [batches or layers, num_logical]: integers >= 0, each row's sum
/// below 2^63.
Matrix<Load> read_load(const std::string& path);
Matrix<Load> parse_load(std::string_view text, const std::string& path);

/// The same with finite real numbers >= 0.
Matrix<double> read_real_load(const std::string& path);
Matrix<double> parse_real_load(std::string_view text, const std::string& path);

/// A placement of one or of several layers, which share ranks, nodes, speeds and dead ranks.
/// Besides physical_to_logical the file may hold what `lplb place` adds; it must agree then.
std::vector<Placement> read_placement(const std::string& path);
std::vector<Placement> parse_placement(std::string_view text, const std::string& path);

/// The weights to move to get to each layer of a placement: [num_layers][moves].
using LayerMoves = std::vector<std::vector<Move>>;

/// A placement file of several layers. Ranks, nodes, speeds and dead ranks are those of `group`;
/// `moves` is left out where null.
std::string placement_json(const ExpertMaps& maps, const Placement& group,
                           const LayerMoves* moves = nullptr);

/// The maps of placements that have the same ranks, slots and logical experts.
ExpertMaps maps_of(const std::vector<Placement>& layers);

/// "same_rank", "same_node", "other_node".
const char* move_kind_name(MoveKind kind);

/// JSON that people can read too: a line for each key at the top, and for each entry of its lists
/// of lists or objects.
std::string json_text(const nlohmann::ordered_json& json);

}  // namespace lplb::io
