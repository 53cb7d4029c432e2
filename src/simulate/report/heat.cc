// SPDX-License-Identifier: MIT

#include <algorithm>
#include <array>
#include <cmath>
#include <span>

#include "core/format.h"
#include "simulate/report/answer.h"
#include "simulate/report/charts.h"
#include "simulate/report/markup.h"

namespace lplb::report {
namespace {

constexpr int kLevels = 5;             // colours on each side of the mean
constexpr int kNoLevel = kLevels + 1;  // of a cell that is not drawn
constexpr std::size_t kMaxRows = 128;  // more ranks share rows, so that the page stays small
constexpr std::size_t kLabelledRows = 16;

/// A row stands for ranks_per_row ranks, and a column for a bucket. A cell has the load of the
/// busiest of these ranks; it is NaN, and not drawn, if the bucket has no pair.
struct Grid {
  std::size_t rows, columns, ranks_per_row;
  std::vector<double> value;

  double at(std::size_t row, std::size_t column) const { return value[row * columns + column]; }
};

/// `heat` is [num_ranks, num_buckets].
Grid make_grid(const SimulateReport& report, std::span<const double> heat) {
  const auto ranks = static_cast<std::size_t>(report.settings.num_ranks);
  const std::size_t columns = report.bucket_start.size();
  const std::size_t group = (ranks + kMaxRows - 1) / kMaxRows;
  Grid grid{(ranks + group - 1) / group, columns, group, {}};
  grid.value.assign(grid.rows * columns, std::nan(""));
  for (std::size_t rank = 0; rank < ranks; ++rank) {
    for (std::size_t column = 0; column < columns; ++column) {
      double& cell = grid.value[rank / group * columns + column];
      cell = std::fmax(cell, heat[rank * columns + column]);
    }
  }
  // The page holds four decimals, so that colours made from them are the same in the script.
  for (double& cell : grid.value) cell = std::round(cell * 1e4) / 1e4;
  return grid;
}

/// The maps of one policy: the mean over the layers, and perhaps each layer.
struct Maps {
  const PolicyReport* policy;
  Grid mean;
  std::vector<Grid> layers;
};

Maps make_maps(const SimulateReport& report, const PolicyReport& policy) {
  Maps maps{&policy, make_grid(report, policy.rank_heat), {}};
  const std::span<const double> all = policy.layer_rank_heat;
  const std::size_t size = policy.rank_heat.size();
  for (std::size_t first = 0; first < all.size(); first += size) {
    maps.layers.push_back(make_grid(report, all.subspan(first, size)));
  }
  return maps;
}

/// Colours in equal steps around the mean load. Both maps have the same scale. The outermost
/// colours also stand for all values beyond.
struct Scale {
  double step;

  int level(double value) const {
    if (std::isnan(value)) return kNoLevel;
    const double steps = std::clamp((value - 1) / step, -1.0 * kLevels, 1.0 * kLevels);
    return static_cast<int>(std::floor(steps + 0.5));  // as the script rounds
  }
};

double reach_of(const Grid& grid) {
  double reach = 0;
  for (const double value : grid.value) reach = std::fmax(reach, std::abs(value - 1));
  return reach;
}

Scale make_scale(double reach) {
  // A colour reaches half a step to each side. Finer steps than 0.01 would show noise.
  const double least = std::max(0.01, reach / (kLevels + 0.5));
  const double power = std::pow(10, std::floor(std::log10(least)));
  for (const double factor : {1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0}) {
    if (factor * power >= least * (1 - 1e-9)) return {factor * power};
  }
  return {10 * power};
}

/// `kind` is a class, or empty.
std::string legend(const Scale& scale, const char* kind) {
  int decimals = 1;
  while (std::abs(std::remainder(scale.step * std::pow(10, decimals), 1)) > 1e-6) ++decimals;
  std::string out =
      formatted(R"(<ul class="key scale{}"{}><li>idle</li>)", kind, *kind == '\0' ? "" : " hidden");
  for (int level = -kLevels; level <= kLevels; ++level) {
    const double value = 1 + scale.step * level;
    if (value < -1e-9) continue;  // no load is negative
    out += formatted(R"(<li{}><svg width="100%" height="14" aria-hidden="true">)"
                     R"(<rect class="h{}" width="100%" height="14"/></svg><span>{}</span></li>)",
                     level % 2 == 0 ? "" : R"( class="minor")", level + kLevels,
                     fixed(value, decimals));
  }
  return out + "<li>busy</li></ul>\n";
}

/// One path for each colour. Each horizontal run of cells of that colour is a stroke, one unit
/// wide.
std::string cells(const Grid& grid, const Scale& scale) {
  std::array<std::string, 2 * kLevels + 1> paths;
  for (std::size_t row = 0; row < grid.rows; ++row) {
    for (std::size_t first = 0, end = 0; first < grid.columns; first = end) {
      const int level = scale.level(grid.at(row, first));
      while (end < grid.columns && scale.level(grid.at(row, end)) == level) ++end;
      if (level == kNoLevel) continue;
      paths[static_cast<std::size_t>(level + kLevels)] +=
          formatted("M{} {}h{}", first, row, end - first);
    }
  }
  std::string out;
  for (std::size_t i = 0; i < paths.size(); ++i) {
    if (!paths[i].empty()) out += formatted("<path class=\"h{}\" d=\"{}\"/>\n", i, paths[i]);
  }
  return out;
}

std::string row_name(const SimulateReport& report, const Grid& grid, std::size_t row) {
  const std::size_t first = row * grid.ranks_per_row;
  if (grid.ranks_per_row == 1) return formatted("rank {}", first);
  const auto ranks = static_cast<std::size_t>(report.settings.num_ranks);
  return formatted("ranks {} to {}", first, std::min(first + grid.ranks_per_row, ranks) - 1);
}

/// The values of all cells, with the four decimals that the readout shows and a test compares.
std::string values(const Grid& grid) {
  std::string out;
  for (const double value : grid.value) {
    out += formatted("{}{:.4f}", out.empty() ? "" : " ", value);
  }
  return out;
}

/// The values of all layers, for the script: two digits to the base 64 each, in units of 1 / 512. A
/// cell without pairs is "..". A layer ends with a blank.
std::string packed_layers(const std::vector<Grid>& layers) {
  constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  std::string out;
  for (const Grid& layer : layers) {
    if (!out.empty()) out += ' ';
    for (const double value : layer.value) {
      if (!std::isfinite(value)) {
        out += "..";
        continue;
      }
      const auto units = static_cast<std::size_t>(std::clamp(std::round(value * 512), 0.0, 4095.0));
      out += {kDigits[units / 64], kDigits[units % 64]};
    }
  }
  return out;
}

/// The position of the largest value. Cells without pairs count as 0.
std::size_t hottest_of(std::span<const double> values) {
  const auto less = [](double a, double b) { return std::fmax(a, 0) < std::fmax(b, 0); };
  const auto hottest = std::max_element(values.begin(), values.end(), less);
  return static_cast<std::size_t>(hottest - values.begin());
}

std::string side_labels(const Grid& grid, std::size_t cell_height) {
  std::string out;
  std::size_t every = 1;
  while (every * cell_height < 16) every *= 2;
  for (std::size_t row = 0; row < grid.rows; row += every) {
    const std::size_t middle = row * cell_height + cell_height / 2 + 4;
    out += formatted(R"(<text x="-8" y="{}" text-anchor="end">{}</text>)", middle,
                     row * grid.ranks_per_row);
    if (grid.rows > kLabelledRows) continue;
    const double* const first = grid.value.data() + row * grid.columns;
    out += formatted(R"(<text class="side" x="100%" dx="8" y="{}">{}</text>)", middle,
                     fixed(first[hottest_of({first, grid.columns})], 2));
  }
  if (grid.rows <= kLabelledRows) {
    out += R"(<text class="axis" x="100%" dx="8" y="-8">most</text>)";
  }
  return out + R"(<text class="axis" x="-8" y="-8" text-anchor="end">rank</text>)";
}

std::string map_html(const SimulateReport& report, const std::string& title, const Maps& maps,
                     const Scale& scale) {
  const Grid& grid = maps.mean;
  const std::size_t cell_height = std::clamp<std::size_t>(360 / grid.rows, 3, 24);
  const std::size_t height = cell_height * grid.rows;
  const std::size_t hottest = hottest_of(grid.value);
  const std::string name = escape(maps.policy->name);
  const std::string summary =
      formatted("Busiest cell: {}, {}, with {} times the mean load.",
                row_name(report, grid, hottest / grid.columns),
                bucket_name(report, hottest % grid.columns), fixed(grid.value[hottest], 3));
  std::string out = formatted(
      R"(<figure class="heat"><h3>{} <span class="name">{}</span></h3><div class="plot">)"
      R"(<svg width="100%" height="{}" role="img"><title>Load of each rank over time, {}</title>)"
      R"(<desc>{}</desc>)",
      title, name, height, name, summary);
  // A cell is one unit wide and high. The view starts half a unit higher, so that a stroke fills
  // its row.
  out += formatted(
      R"(<svg class="cells" width="100%" height="{}" viewBox="0 -0.5 {} {}" )"
      R"(preserveAspectRatio="none" data-policy="{}" data-metric="rank_heat" data-rows="{}" )"
      R"(data-ranks-per-row="{}" data-step="{}" data-values="{}" data-layers="{}">
{}</svg>)",
      height, grid.columns, grid.rows, name, grid.rows, grid.ranks_per_row, scale.step,
      values(grid), packed_layers(maps.layers), cells(grid, scale));
  out += side_labels(grid, cell_height);
  out +=
      formatted(R"(<text class="first" x="0" y="{0}">{1}</text>)"
                R"(<text class="last" x="100%" y="{0}" text-anchor="end">{2}</text>)"
                R"(<text class="axis" x="50%" y="{0}" text-anchor="middle">batch</text></svg></div>
<figcaption>{3}</figcaption></figure>
)",
                height + 18, 0, grouped(report.num_batches - 1), summary);
  return out;
}

}  // namespace

std::string heat_html(const SimulateReport& report) {
  const Answer answer = find_answer(report);
  const auto cells_expected =
      static_cast<std::size_t>(report.settings.num_ranks) * report.bucket_start.size();
  std::vector<const PolicyReport*> shown;
  for (const PolicyReport* policy : {answer.base, answer.best}) {
    if (policy != nullptr && policy->rank_heat.size() == cells_expected) shown.push_back(policy);
  }
  if (cells_expected == 0 || shown.empty()) return "";
  std::vector<Maps> maps;
  maps.reserve(shown.size());
  double reach = 0, layer_reach = 0;
  for (const PolicyReport* policy : shown) {
    maps.push_back(make_maps(report, *policy));
    reach = std::max(reach, reach_of(maps.back().mean));
    for (const Grid& layer : maps.back().layers) {
      layer_reach = std::max(layer_reach, reach_of(layer));
    }
  }
  const Scale scale = make_scale(reach);
  const Scale layer_scale = make_scale(layer_reach);
  std::string out = legend(scale, "");
  if (layer_reach > 0) out += legend(layer_scale, " one-layer");
  out += formatted("<div class=\"maps\" data-layer-step=\"{}\">\n", layer_scale.step);
  for (std::size_t i = 0; i < shown.size(); ++i) {
    const char* title = shown.size() == 1 ? "" : shown[i] == answer.base ? "Before:" : "After:";
    out += map_html(report, title, maps[i], scale);
  }
  out += "</div>\n";
  if (maps[0].mean.ranks_per_row > 1) {
    out += formatted("<p class=\"note\">Each row is the busiest of {} ranks.</p>\n",
                     maps[0].mean.ranks_per_row);
  }
  return out;
}

}  // namespace lplb::report
