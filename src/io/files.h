// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "io/json.h"
#include "lplb/cost.h"
#include "lplb/placement.h"
#include "lplb/types.h"

// Readers and writers of the files of docs/formats.md. read_...() takes a path; "-" is standard
// input. parse_...() takes the text of a file, and uses `path` only in messages. All of them throw
// FileError.
namespace lplb::io {

/// The largest load or placement file, in bytes. A number takes at least 2 bytes of text and 16
/// bytes of memory.
inline constexpr std::size_t kMaxJsonBytes = std::size_t{1} << 28;

/// Reads {"load": [[...], ...]}, [batches or layers, num_logical]: integers >= 0. The sum of each
/// row must be below 2^63. If `layers` is given, it becomes the key `layers` (layer_numbers()).
Matrix<Load> read_load(const std::string& path, std::vector<Index>* layers = nullptr);
Matrix<Load> parse_load(std::string_view text, const std::string& path,
                        std::vector<Index>* layers = nullptr);

/// Reads the same, with finite real numbers >= 0.
Matrix<double> read_real_load(const std::string& path, std::vector<Index>* layers = nullptr);
Matrix<double> parse_real_load(std::string_view text, const std::string& path,
                               std::vector<Index>* layers = nullptr);

/// The optional key `layers` of `object`: the model's numbers of its `num_layers` layers,
/// ascending. Empty if there is no such key.
std::vector<Index> layer_numbers(const Object& object, std::size_t num_layers);

/// Which of a file's `num_rows` rows belong to `num_layers` layers of something else, such as a
/// trace: [num_layers]. `numbers` and `layers` are the model's numbers of both, or empty if they
/// are not known. As many rows as layers are taken in order; numbers known on both sides must then
/// be equal. Otherwise rows are found by number, and rows without numbers are the model's layers
/// from 0 on. Empty if the rows do not fit.
std::vector<std::size_t> rows_of_layers(const std::vector<Index>& numbers, std::size_t num_rows,
                                        const std::vector<Index>& layers, std::size_t num_layers);

/// Reads a placement of one or several layers. All layers have the same ranks, nodes, speeds and
/// dead ranks; their numbers of slots may differ. The file may also hold the keys that `lplb place`
/// adds. These must agree with physical_to_logical. If `layers` is given, it becomes the key
/// `layers` (layer_numbers()).
std::vector<Placement> read_placement(const std::string& path,
                                      std::vector<Index>* layers = nullptr);
std::vector<Placement> parse_placement(std::string_view text, const std::string& path,
                                       std::vector<Index>* layers = nullptr);

/// Reads a cost model. load_cost_model() reads it from a path.
CostModel parse_cost(std::string_view text, const std::string& path);
/// The text of a cost model's file.
std::string cost_json(const CostModel& model);

/// The moves that lead to each layer of a placement: [num_layers][moves].
using LayerMoves = std::vector<std::vector<Move>>;

/// The text of a placement file with the layers of `maps`. Ranks, nodes, speeds and dead ranks are
/// those of `group`. If `moves` is null or `layers` is empty, the file has no such key.
std::string placement_json(const ExpertMaps& maps, const Placement& group,
                           const LayerMoves* moves = nullptr,
                           const std::vector<Index>& layers = {});

/// The same for layers that may have different numbers of slots. The slots of an expert are in
/// ascending order. `numbers` are the model's numbers of the layers, or empty.
std::string placement_json(const std::vector<Placement>& layers, const std::vector<Index>& numbers);

/// The maps of all layers in one object. The layers must have the same ranks, slots and logical
/// experts.
ExpertMaps maps_of(const std::vector<Placement>& layers);

/// "same_rank", "same_node", "other_node" or "lost".
const char* move_kind_name(MoveKind kind);

/// JSON that people can read, too: a line for each key of the top object, and a line for each entry
/// of a list of lists or objects.
std::string json_text(const nlohmann::ordered_json& json);

}  // namespace lplb::io
