// SPDX-License-Identifier: MIT
#include <fmt/ranges.h>

#include <algorithm>
#include <limits>
#include <numeric>

#include "core/format.h"
#include "io/files.h"
#include "simulate/trace/readers.h"

namespace lplb {
namespace replay {
namespace {

class OwnTrace : public TraceReader {
 public:
  explicit OwnTrace(JsonLines lines) : lines_(std::move(lines)) {
    const io::Object object = lines_.object();
    if (const std::string format = object.string("format"); format != kOwnFormat) {
      object.fail("format", formatted("is \"{}\", expected \"{}\"", format, kOwnFormat));
    }
    // The version is checked before the other keys, because a later version may have other keys.
    const std::int64_t version = object.integer("version", 1, kMaxNumber);
    if (version != kOwnVersion) {
      object.fail("version", formatted("is {}, this program reads {}", version, kOwnVersion));
    }
    object.allow_only({"format", "version", "name", "synthetic", "num_layers", "first_layer",
                       "layer_stride", "layers", "num_logical_experts", "num_topk", "num_sources"});
    const auto integer = [&](const char* key, std::int64_t low, std::int64_t high, Index absent) {
      return object.has(key) ? static_cast<Index>(object.integer(key, low, high)) : absent;
    };
    info_.format = kOwnFormat;
    info_.name = object.has("name") ? object.string("name") : file_name(lines_.path());
    if (object.has("synthetic")) {
      const io::Json& synthetic = object.at("synthetic");
      if (!synthetic.is_boolean()) object.fail("synthetic", "is neither true nor false");
      info_.synthetic = synthetic.get<bool>();
    }
    info_.num_layers = static_cast<Index>(object.integer("num_layers", 1, kMaxLayers));
    info_.num_logical_experts =
        static_cast<Index>(object.integer("num_logical_experts", 1, kMaxPhysical));
    info_.num_topk = static_cast<Index>(object.integer("num_topk", 1, info_.num_logical_experts));
    info_.first_layer = integer("first_layer", 0, kMaxNumber, 0);
    info_.layer_stride = integer("layer_stride", 1, kMaxNumber, 1);
    info_.layers = io::layer_numbers(object, static_cast<std::size_t>(info_.num_layers));
    if (!info_.layers.empty() && (object.has("first_layer") || object.has("layer_stride"))) {
      object.fail("layers", "says the same as first_layer and layer_stride, expected one of them");
    }
    info_.num_sources = integer("num_sources", 1, kMaxRanks, 0);
  }

  const TraceInfo& info() const override { return info_; }

  bool next(TraceStep& step) override {
    if (!lines_.next()) return false;
    const io::Object object = lines_.object();
    object.allow_only({"load", "num_tokens", "domain", "source_load"});
    step.step = step_++;
    step.domain = object.has("domain") ? object.string("domain") : "";
    read_load(lines_, info_, step.load);
    if (object.has("num_tokens")) {
      step.num_tokens = object.integer("num_tokens", 0, std::numeric_limits<std::int64_t>::max());
      check_sums(lines_, info_, step);
    } else {
      // Layers may drop tokens. The fullest layer tells how many tokens there were at least.
      const std::vector<Load> sums = layer_sums(lines_, info_, step.load);
      const Load most = *std::max_element(sums.begin(), sums.end());
      step.num_tokens = most / info_.num_topk + (most % info_.num_topk != 0);
    }
    check_experts(lines_, info_, step);
    step.topk_idx.clear();
    step.source_tokens.clear();
    read_sources(object, step);
    return true;
  }

 private:
  void read_sources(const io::Object& object, TraceStep& step) {
    step.source_load.clear();
    if (!object.has("source_load")) {
      if (info_.num_sources > 0)
        lines_.fail("key source_load is missing: the header has num_sources");
      return;
    }
    if (info_.num_sources == 0) object.fail("source_load", "needs num_sources in the header");
    const auto layers = static_cast<std::size_t>(info_.num_layers);
    const auto sources = static_cast<std::size_t>(info_.num_sources);
    const auto experts = static_cast<std::size_t>(info_.num_logical_experts);
    if (const FlatArray* array = lines_.array("source_load", {layers, sources, experts})) {
      step.source_load = array->values;
    } else {
      const io::Json json = lines_.value("source_load");
      if (!json.is_array() || json.size() != layers) {
        object.fail("source_load", formatted("expected a list of num_layers ({}) layers", layers));
      }
      for (std::size_t layer = 0; layer < layers; ++layer) {
        const std::vector<Load> counts =
            read_matrix(lines_, json[layer], formatted("source_load[{}]", layer), sources, experts);
        step.source_load.insert(step.source_load.end(), counts.begin(), counts.end());
      }
    }
    for (std::size_t layer = 0; layer < layers; ++layer) {
      check_sources(
          layer, std::span(step.source_load).subspan(layer * sources * experts, sources * experts),
          step);
    }
  }

  /// Checks that the sources of one layer add up to its load.
  void check_sources(std::size_t layer, std::span<const Load> counts, const TraceStep& step) const {
    const auto experts = static_cast<std::size_t>(info_.num_logical_experts);
    for (std::size_t e = 0; e < experts; ++e) {
      Load left = step.load[layer * experts + e];
      for (std::size_t i = e; i < counts.size() && left >= 0; i += experts) left -= counts[i];
      if (left == 0) continue;
      lines_.fail(
          formatted("key source_load[{}]: the sources of expert {} do not sum to its "
                    "load ({})",
                    layer, e, step.load[layer * experts + e]));
    }
  }

  JsonLines lines_;
  TraceInfo info_;
  std::int64_t step_ = 0;
};

}  // namespace

std::unique_ptr<TraceReader> open_own_trace(JsonLines lines) {
  return std::make_unique<OwnTrace>(std::move(lines));
}

}  // namespace replay

namespace {

/// `text` as a JSON string. The result is valid JSON, whatever bytes `text` holds.
std::string json_string(const std::string& text) {
  return io::Json(text).dump(-1, ' ', false, io::Json::error_handler_t::replace);
}

/// A JSON list of lists of `columns` numbers each.
std::string matrix_text(std::span<const Load> values, std::size_t columns) {
  std::string text = "[";
  for (std::size_t i = 0; i < values.size(); i += columns) {
    text += formatted("{}[{}]", i == 0 ? "" : ",", fmt::join(values.subspan(i, columns), ","));
  }
  return text + "]";
}

/// Whether the load of each layer is that of num_tokens tokens. Only then the file may name them.
bool no_token_is_dropped(const TraceInfo& info, const TraceStep& step) {
  const auto experts = static_cast<std::ptrdiff_t>(info.num_logical_experts);
  for (auto row = step.load.begin(); step.load.end() - row >= experts; row += experts) {
    const Load sum = std::accumulate(row, row + experts, Load{0});
    if (sum % info.num_topk != 0 || sum / info.num_topk != step.num_tokens) return false;
  }
  return true;
}

}  // namespace

std::string trace_header_line(const TraceInfo& info) {
  const std::string numbers =
      info.layers.empty()
          ? formatted(R"("first_layer":{},"layer_stride":{})", info.first_layer, info.layer_stride)
          : formatted(R"("layers":[{}])", fmt::join(info.layers, ","));
  std::string line =
      formatted(R"({{"format":"{}","version":{},"name":{},"synthetic":{},"num_layers":{},{},)"
                R"("num_logical_experts":{},"num_topk":{})",
                replay::kOwnFormat, replay::kOwnVersion, json_string(info.name), info.synthetic,
                info.num_layers, numbers, info.num_logical_experts, info.num_topk);
  if (info.num_sources > 0) line += formatted(R"(,"num_sources":{})", info.num_sources);
  return line + "}\n";
}

std::string trace_step_line(const TraceInfo& info, const TraceStep& step) {
  const auto experts = static_cast<std::size_t>(info.num_logical_experts);
  std::string line = "{";
  if (no_token_is_dropped(info, step)) line += formatted(R"("num_tokens":{},)", step.num_tokens);
  if (!step.domain.empty()) line += R"("domain":)" + json_string(step.domain) + ",";
  line += R"("load":)" + matrix_text(step.load, experts);
  if (!step.source_load.empty()) {
    const std::span<const Load> all = step.source_load;
    const std::size_t layer_size = experts * static_cast<std::size_t>(info.num_sources);
    line += R"(,"source_load":[)";
    for (std::size_t i = 0; i < all.size(); i += layer_size) {
      if (i > 0) line += ',';
      line += matrix_text(all.subspan(i, layer_size), experts);
    }
    line += ']';
  }
  return line + "}\n";
}

}  // namespace lplb
