// SPDX-License-Identifier: MIT
#include "place_table.h"

#include <algorithm>

#include "core/format.h"
#include "outputs.h"

namespace lplb::app {
namespace {

constexpr std::size_t kTableRows = 20;

std::span<const double> row_of(const io::Matrix<double>& load, std::size_t i) {
  return std::span(load.values).subspan(i * load.columns, load.columns);
}

}  // namespace

std::string place_table(const PlaceJob& job, const std::vector<Placement>& layers,
                        const io::LayerMoves* moves) {
  std::vector<std::string> header = {"layer", "imbalance (even split)", "most replicas"};
  if (moves != nullptr) {
    header.insert(header.begin() + 1, "before");
    header.insert(header.end(), {"same rank", "same node", "other node"});
  }
  Table table(std::move(header));
  double sum = 0, sum_before = 0;
  std::size_t fetched = 0, lost = 0;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const double now = even_imbalance(layers[i], row_of(job.load, i));
    sum += now;
    std::vector<std::string> row = {
        std::to_string(job.layers.empty() ? static_cast<Index>(i) : job.layers[i]),
        formatted("{:.4f}", now), std::to_string(layers[i].max_replicas)};
    if (moves != nullptr) {
      const double before = even_imbalance(job.from[i], row_of(job.load, i));
      sum_before += before;
      row.insert(row.begin() + 1, formatted("{:.4f}", before));
      const auto count = [&](MoveKind kind) {
        return static_cast<std::size_t>(
            std::count_if((*moves)[i].begin(), (*moves)[i].end(),
                          [&](const Move& move) { return move.kind == kind; }));
      };
      for (const MoveKind kind : {MoveKind::kSameRank, MoveKind::kSameNode, MoveKind::kOtherNode}) {
        row.push_back(std::to_string(count(kind)));
      }
      fetched += count(MoveKind::kSameNode) + count(MoveKind::kOtherNode);
      lost += count(MoveKind::kLost);
    }
    if (i < kTableRows) table.add(std::move(row));
  }
  std::string text = job.load_text + table.text();
  if (layers.size() > kTableRows) {
    text += formatted("... and {} layers more\n", layers.size() - kTableRows);
  }
  if (moves != nullptr) {
    const auto num_layers = static_cast<double>(layers.size());
    const std::size_t slots = layers.size() * static_cast<std::size_t>(layers[0].num_live_ranks()) *
                              static_cast<std::size_t>(layers[0].slots_per_rank());
    text += formatted(
        "mean imbalance {:.4f} with the old placement, {:.4f} with the new one; {} of {} experts "
        "move to another rank\n",
        sum_before / num_layers, sum / num_layers, fetched, slots);
    if (lost > 0) {
      text += formatted(
          "{} experts are on no live rank and must come from elsewhere, such as a "
          "checkpoint\n",
          lost);
    }
  }
  return text;
}

}  // namespace lplb::app
