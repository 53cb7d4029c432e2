// SPDX-License-Identifier: MIT
#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>

#include "core/format.h"
#include "simulate/report/answer.h"
#include "simulate/report/charts.h"
#include "simulate/report/markup.h"
#include "simulate/report/styles.h"

namespace lplb::report {
namespace {

constexpr std::size_t kShown = 16;

/// A placement that policies share, and the replicas that it gives to each expert of each layer.
struct Column {
  std::string name;
  const std::vector<Placement>* layers;
};

/// The placements with replicas, each once.
std::vector<Column> columns_of(const SimulateReport& report) {
  std::vector<Column> columns;
  for (const PolicyReport& policy : report.policies) {
    const std::string name = placement_of(policy.name);
    const bool known =
        std::ranges::any_of(columns, [&](const Column& column) { return column.name == name; });
    const bool has_all = policy.next_placement.size() == std::size_t(report.trace.num_layers);
    if (known || !has_all || split_class(policy.name) == "unsplit") continue;
    columns.push_back({name, &policy.next_placement});
  }
  return columns;
}

std::size_t num_experts(const SimulateReport& report) {
  return static_cast<std::size_t>(report.trace.num_logical_experts);
}

/// The loads of a layer's experts, divided by their mean; all 0 if it has no tokens.
std::vector<double> relative_load(const SimulateReport& report, std::size_t layer) {
  const std::size_t experts = num_experts(report);
  const auto load = std::span(report.expert_load).subspan(layer * experts, experts);
  const double mean = std::accumulate(load.begin(), load.end(), 0.0) / static_cast<double>(experts);
  std::vector<double> out;
  for (const double tokens : load) out.push_back(mean > 0 ? tokens / mean : 0);
  return out;
}

/// The layer whose hottest expert has the largest load.
std::size_t hottest_layer(const SimulateReport& report) {
  std::size_t hottest = 0;
  double most = 0;
  for (std::size_t layer = 0; layer < static_cast<std::size_t>(report.trace.num_layers); ++layer) {
    const std::vector<double> load = relative_load(report, layer);
    const double here = *std::ranges::max_element(load);
    if (here > most) hottest = layer;
    most = std::max(most, here);
  }
  return hottest;
}

/// The experts by falling load.
std::vector<std::size_t> by_load(const std::vector<double>& load) {
  std::vector<std::size_t> order(load.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order, [&](auto a, auto b) { return load[a] > load[b]; });
  return order;
}

Index replicas(const Column& column, std::size_t layer, std::size_t expert) {
  return (*column.layers)[layer].replica_count[static_cast<Index>(expert)];
}

/// For the script: the tokens of all layers, and the replicas of each column.
std::string data_of(const SimulateReport& report, const std::vector<Column>& columns) {
  std::string load, count;
  for (const double tokens : report.expert_load) {
    load += formatted("{}{:.0f}", load.empty() ? "" : " ", tokens);
  }
  for (const Column& column : columns) {
    for (std::size_t layer = 0; layer < column.layers->size(); ++layer) {
      for (std::size_t expert = 0; expert < num_experts(report); ++expert) {
        count += formatted("{}{}", count.empty() ? "" : " ", replicas(column, layer, expert));
      }
    }
  }
  return formatted(R"( data-experts="{}" data-load="{}" data-replicas="{}")", num_experts(report),
                   load, count);
}

std::string row(std::size_t expert, double load, double most, std::size_t layer,
                const std::vector<Column>& columns) {
  std::string out = formatted(
      R"(<tr><th scope="row">{}</th><td class="bar"><span style="width:{:.1f}%"></span></td>)"
      R"(<td>{}</td>)",
      expert, most > 0 ? 100 * load / most : 0, fixed(load, 2));
  for (const Column& column : columns) {
    const Index count = replicas(column, layer, expert);
    out += formatted("<td>{}</td><td>{}</td>", count, fixed(load / count, 2));
  }
  return out + "</tr>\n";
}

}  // namespace

std::string experts_html(const SimulateReport& report) {
  const std::size_t experts = num_experts(report);
  const std::vector<Column> columns = columns_of(report);
  const auto layers = static_cast<std::size_t>(report.trace.num_layers);
  if (columns.empty() || experts == 0 || report.expert_load.size() != layers * experts) return "";
  const std::size_t layer = hottest_layer(report);
  const std::vector<double> load = relative_load(report, layer);
  const std::vector<std::size_t> order = by_load(load);
  const std::size_t shown = std::min(kShown, experts);
  double share = 0;
  for (std::size_t i = 0; i < shown; ++i) share += load[order[i]] / static_cast<double>(experts);
  std::string heads, kinds;
  for (const Column& column : columns) {
    heads += formatted(R"(<th scope="colgroup" colspan="2" class="policy">)"
                       R"(<span class="name">{}</span></th>)",
                       escape(column.name));
    kinds += R"(<th scope="col">replicas</th><th scope="col">load of each</th>)";
  }
  std::string out = formatted(
      R"(<p class="summary-line"><b>Layer <span class="layer" data-index="{}">{}</span></b>: the )"
      R"(<span class="shown">{}</span> hottest of {} carry <span class="share">{}</span> of its )"
      R"(tokens.</p>
<div class="scroll" role="region" tabindex="0" aria-label="The hottest experts">
<table class="experts"{}>
<thead><tr><td></td><td></td><td></td>{}</tr>
<tr><th scope="col">expert</th><th scope="col" colspan="2">load / mean load</th>{}</tr></thead>
<tbody>
)",
      layer, report.trace.layer_number(layer), shown, counted(experts, "expert"), percent(share, 0),
      data_of(report, columns), heads, kinds);
  for (std::size_t i = 0; i < shown; ++i) {
    out += row(order[i], load[order[i]], load[order[0]], layer, columns);
  }
  return out + "</tbody>\n</table>\n</div>\n";
}

}  // namespace lplb::report
