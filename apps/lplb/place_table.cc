// SPDX-License-Identifier: MIT
#include "place_table.h"

#include <algorithm>

#include "core/format.h"
#include "outputs.h"
#include "rows.h"
#include "simulate/report/markup.h"

namespace lplb::app {
namespace {

std::span<const double> row_of(const io::Matrix<double>& load, std::size_t i) {
  return std::span(load.values).subspan(i * load.columns, load.columns);
}

}  // namespace

std::string place_table(const PlaceJob& job, const std::vector<Placement>& layers,
                        const io::LayerMoves* moves, const PlaceResult& placed) {
  const std::vector<double>& exact = placed.exact;
  std::vector<std::string> header = {"layer", "imbalance (even split)", "most replicas"};
  if (!exact.empty()) header.insert(header.begin() + 2, placed.exact_name);
  if (moves != nullptr) {
    header.insert(header.begin() + 1, "before");
    header.insert(header.end(), {"same rank", "same node", "other node"});
  }
  Table table(std::move(header));
  Imbalances imbalances, imbalances_before;
  std::size_t fetched = 0, lost = 0;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const bool any = has_tokens(job, i);
    std::vector<std::string> row = {
        std::to_string(job.layers.empty() ? static_cast<Index>(i) : job.layers[i]),
        imbalances.add(even_imbalance(layers[i], row_of(job.load, i)), any),
        std::to_string(layers[i].max_replicas)};
    if (!exact.empty()) row.insert(row.begin() + 2, any ? formatted("{:.4f}", exact[i]) : "-");
    if (moves != nullptr) {
      const double before = even_imbalance(job.from[i], row_of(job.load, i));
      row.insert(row.begin() + 1, imbalances_before.add(before, any));
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
    const std::size_t slots = layers.size() * static_cast<std::size_t>(layers[0].num_live_ranks()) *
                              static_cast<std::size_t>(layers[0].slots_per_rank());
    text += formatted(
        "mean imbalance {} with the old placement, {} with the new one{}; {} of {} experts move to "
        "another rank\n",
        imbalances_before.mean(), imbalances.mean(), imbalances.empty_text("layer"), fetched,
        slots);
    if (lost > 0) {
      text += formatted(
          "{} {} on no live rank and must come from elsewhere, such as a checkpoint\n",
          report::counted(static_cast<std::int64_t>(lost), "expert"), lost == 1 ? "is" : "are");
    }
  }
  return text;
}

}  // namespace lplb::app
