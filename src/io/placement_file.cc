// SPDX-License-Identifier: MIT

#include <algorithm>

#include "core/format.h"
#include "io/files.h"

namespace lplb::io {
namespace {

/// Reads one placement file.
class Reader {
 public:
  Reader(const Json& json, const std::string& path) : object_(json, path), path_(path) {
    object_.allow_only({"num_ranks", "num_logical_experts", "physical_to_logical", "num_nodes",
                        "rank_speed", "rank_alive", "logical_to_physical", "replica_count", "moves",
                        "layers"});
  }

  std::vector<Placement> read() {
    num_ranks_ = static_cast<Index>(object_.integer("num_ranks", 1, kMaxRanks));
    num_logical_ = static_cast<Index>(object_.integer("num_logical_experts", 1, kMaxPhysical));
    if (object_.has("num_nodes")) {
      options_.num_nodes = static_cast<Index>(object_.integer("num_nodes", 1, num_ranks_));
    }
    if (object_.has("rank_speed")) read_speeds();
    if (object_.has("rank_alive")) read_alive();

    const Json& maps = object_.at("physical_to_logical");
    nested_ = maps.is_array() && !maps.empty() && maps[0].is_array();
    const auto rows = integer_rows(maps, path_, "key physical_to_logical", 0, num_logical_ - 1);
    for (std::size_t layer = 0; layer < rows.size(); ++layer) {
      layers_.push_back(placement(layer, {rows[layer].begin(), rows[layer].end()}));
    }
    if (object_.has("replica_count")) check_replica_count();
    if (object_.has("logical_to_physical")) check_logical_to_physical();
    if (object_.has("moves")) check_moves();
    numbers_ = layer_numbers(object_, layers_.size());
    return std::move(layers_);
  }

  /// The model's numbers of the layers, after read(); empty if the file does not have them.
  std::vector<Index>& numbers() { return numbers_; }

 private:
  void read_speeds() {
    const Json& json = object_.at("rank_speed");
    if (!json.is_array() || json.empty() || json[0].is_array()) {
      object_.fail("rank_speed", formatted("expected a list of {} numbers > 0", num_ranks_));
    }
    options_.rank_speed = real_matrix(json, path_, "key rank_speed", true).values;
  }

  void read_alive() {
    const Json& json = object_.at("rank_alive");
    if (!json.is_array()) {
      object_.fail("rank_alive", formatted("expected a list of {} booleans", num_ranks_));
    }
    for (std::size_t rank = 0; rank < json.size(); ++rank) {
      if (!json[rank].is_boolean()) {
        object_.fail(formatted("rank_alive[{}]", rank), "is neither true nor false");
      }
      options_.rank_alive.push_back(json[rank].get<bool>() ? 1 : 0);
    }
  }

  Placement placement(std::size_t layer, const std::vector<Index>& physical_to_logical) const {
    try {
      return make_placement(num_ranks_, num_logical_, physical_to_logical, options_);
    } catch (const ArgumentError& error) {
      const std::string problem = std::string(error.what()).substr(error.argument().size() + 2);
      if (nested_ && error.argument() == "physical_to_logical") {
        object_.fail(formatted("physical_to_logical[{}]", layer), problem);
      }
      object_.fail(error.argument(), nested_ ? formatted("layer {}: {}", layer, problem) : problem);
    }
  }

  /// The part of the value of `key` that belongs to `layer`. `name` becomes its name in messages.
  const Json& of_layer(const std::string& key, std::size_t layer, std::string& name) const {
    const Json& json = object_.at(key);
    name = key;
    if (!nested_) return json;
    if (!json.is_array() || json.size() != layers_.size()) {
      object_.fail(key, formatted("expected a list of {} layers, as physical_to_logical has",
                                  layers_.size()));
    }
    name = formatted("{}[{}]", key, layer);
    return json[layer];
  }

  void check_replica_count() const {
    std::string name;
    for (std::size_t layer = 0; layer < layers_.size(); ++layer) {
      const Json& counts = of_layer("replica_count", layer, name);
      if (counts != Json(layers_[layer].replica_count)) {
        object_.fail(name, "does not agree with physical_to_logical");
      }
    }
  }

  /// Replicas may be in any order, but the padding must be at the end.
  void check_logical_to_physical() const {
    std::string name;
    for (std::size_t layer = 0; layer < layers_.size(); ++layer) {
      const Json& map = of_layer("logical_to_physical", layer, name);
      const Matrix<std::int64_t> rows =
          integer_matrix(map, path_, "key " + name, -1, kMaxPhysical - 1, false);
      if (rows.rows != static_cast<std::size_t>(num_logical_)) {
        object_.fail(name, formatted("has {} rows, expected num_logical_experts ({})", rows.rows,
                                     num_logical_));
      }
      for (Index e = 0; e < num_logical_; ++e) {
        const auto begin = rows.values.begin() + static_cast<std::ptrdiff_t>(e * rows.columns);
        const auto end = begin + static_cast<std::ptrdiff_t>(rows.columns);
        const auto padding = std::find(begin, end, -1);
        std::vector<std::int64_t> slots(begin, padding);
        std::sort(slots.begin(), slots.end());
        if (!std::ranges::equal(slots, layers_[layer].replicas(e)) ||
            std::find_if(padding, end, [](std::int64_t p) { return p != -1; }) != end) {
          object_.fail(formatted("{}[{}]", name, e), "does not agree with physical_to_logical");
        }
      }
    }
  }

  /// Checks that the moves can lead to this placement. Their sources are slots of another
  /// placement, which may have more slots.
  void check_moves() const {
    const Json& moves = object_.at("moves");
    if (!moves.is_array()) object_.fail("moves", "expected a list of objects");
    const auto num_layers = static_cast<std::int64_t>(layers_.size());
    for (std::size_t i = 0; i < moves.size(); ++i) {
      const Object move(moves[i], path_, formatted("key moves[{}]", i));
      move.allow_only({"layer", "logical", "source", "target", "kind"});
      const auto layer = static_cast<std::size_t>(move.integer("layer", 0, num_layers - 1));
      const std::int64_t logical = move.integer("logical", 0, num_logical_ - 1);
      const std::int64_t source = move.integer("source", -1, kMaxPhysical - 1);
      const std::int64_t target = move.integer("target", 0, layers_[layer].num_physical() - 1);
      if (layers_[layer].physical_to_logical[static_cast<std::size_t>(target)] != logical) {
        move.fail("target", formatted("{}, where physical_to_logical has another expert than {}",
                                      target, logical));
      }
      const std::string kind = move.string("kind");
      const auto is_kind = [&](MoveKind k) { return kind == move_kind_name(k); };
      if (!is_kind(MoveKind::kSameRank) && !is_kind(MoveKind::kSameNode) &&
          !is_kind(MoveKind::kOtherNode) && !is_kind(MoveKind::kLost)) {
        move.fail("kind", "expected same_rank, same_node, other_node or lost");
      }
      if (is_kind(MoveKind::kLost) != (source == -1)) {
        move.fail("source", formatted("{} with kind {}, expected -1 if and only if it is lost",
                                      source, kind));
      }
    }
  }

  Object object_;
  std::string path_;
  Index num_ranks_ = 0;
  Index num_logical_ = 0;
  bool nested_ = false;
  PlacementOptions options_;
  std::vector<Placement> layers_;
  std::vector<Index> numbers_;
};

}  // namespace

std::vector<Placement> parse_placement(std::string_view text, const std::string& path,
                                       std::vector<Index>* layers) {
  const Json json = parse_json(text, path);
  Reader reader(json, path);
  std::vector<Placement> result = reader.read();
  if (layers != nullptr) *layers = std::move(reader.numbers());
  return result;
}

std::vector<Placement> read_placement(const std::string& path, std::vector<Index>* layers) {
  return parse_placement(read_file(path, kMaxJsonBytes), path == "-" ? "standard input" : path,
                         layers);
}

const char* move_kind_name(MoveKind kind) {
  switch (kind) {
    case MoveKind::kSameRank:
      return "same_rank";
    case MoveKind::kSameNode:
      return "same_node";
    case MoveKind::kOtherNode:
      return "other_node";
    default:
      return "lost";
  }
}

}  // namespace lplb::io
