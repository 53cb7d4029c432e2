// SPDX-License-Identifier: MIT
#include "solve/ipm/tables.h"

#include <iterator>

#include "core/check.h"
#include "core/format.h"

namespace lplb::solvers {
namespace {

IpmSize choose_size(const SplitProblem::Tables& t) {
  check_argument(t.place.size() <= std::size_t{kMaxIpmVariables}, "placement",
                 "has {} places of replicated experts, solver \"ipm\" on a device takes up to {}",
                 t.place.size(), kMaxIpmVariables);
  for (const IpmSize size : kIpmSizes) {
    if (t.live_ranks.size() <= static_cast<std::size_t>(size.rows)) return size;
  }
  throw ArgumentError("placement",
                      formatted("has {} live ranks, solver \"ipm\" on a device takes up to {}",
                                t.live_ranks.size(), std::rbegin(kIpmSizes)->rows));
}

}  // namespace

void IpmTables::assign(const SplitProblem::Tables& t) {
  size_ = choose_size(t);
  num_rows_ = static_cast<std::int32_t>(t.live_ranks.size());
  num_variables_ = static_cast<std::int32_t>(t.place.size());
  num_experts_ = t.num_replicated();
  shared_bytes_ = IpmSharedLayout(size_.rows, size_.threads, num_variables_, num_experts_).bytes;

  std::vector<std::int32_t> row_of_rank(static_cast<std::size_t>(t.num_ranks), -1);
  double joint_speed = 0;
  for (const Index g : t.live_ranks) joint_speed += t.cost.speed(g);
  speed_.clear();
  for (const Index g : t.live_ranks) {
    row_of_rank[g] = static_cast<std::int32_t>(speed_.size());
    speed_.push_back(t.cost.speed(g) / (joint_speed / num_rows_));
  }
  row_.clear();
  std::vector<std::int32_t> row_begin(1, 0);
  std::vector<std::int32_t> row_variable;
  for (const SplitProblem::Tables::Place& place : t.place) row_.push_back(row_of_rank[place.rank]);
  for (const Index g : t.live_ranks) {
    row_variable.insert(row_variable.end(), t.incident.begin() + t.incident_begin[g],
                        t.incident.begin() + t.incident_begin[g + 1]);
    row_begin.push_back(static_cast<std::int32_t>(row_variable.size()));
  }

  // The order is that of fill().
  integers_.clear();
  begin_.clear();
  add(row_);
  add(t.place_owner);
  add(t.place_begin);
  add(row_begin);
  add(row_variable);
  add_matrix(t);
  add_colours(t);
}

/// Adds every entry of the lower half of the matrix, and the pairs of an expert's variables that
/// add to it.
void IpmTables::add_matrix(const SplitProblem::Tables& t) {
  const std::int32_t n = num_rows_;
  std::vector<std::vector<std::int32_t>> pairs(static_cast<std::size_t>(n) * n);
  for (Index k = 0; k < t.num_replicated(); ++k) {
    for (Index p = t.place_begin[k]; p < t.place_begin[k + 1]; ++p) {
      for (Index q = t.place_begin[k]; q < t.place_begin[k + 1]; ++q) {
        if (row_[p] >= row_[q]) pairs[row_[p] * n + row_[q]].push_back(p << 16 | q);
      }
    }
  }
  std::vector<std::int32_t> entry;
  std::vector<std::int32_t> entry_begin(1, 0);
  std::vector<std::int32_t> pair;
  for (std::int32_t i = 0; i < n; ++i) {
    for (std::int32_t j = 0; j <= i; ++j) {
      entry.push_back(i << 16 | j);
      const auto& here = pairs[i * n + j];
      pair.insert(pair.end(), here.begin(), here.end());
      entry_begin.push_back(static_cast<std::int32_t>(pair.size()));
    }
  }
  num_entries_ = static_cast<std::int32_t>(entry.size());
  add(entry);
  add(entry_begin);
  add(pair);
}

/// Adds runs of experts that share no rank, which are rounded at the same time. (Tables has the
/// experts in this order.)
void IpmTables::add_colours(const SplitProblem::Tables& t) {
  std::vector<std::int32_t> colour_begin(1, 0);
  std::vector<std::int32_t> last(static_cast<std::size_t>(num_rows_), -1);
  for (Index k = 0; k < t.num_replicated(); ++k) {
    for (Index p = t.place_begin[k]; p < t.place_begin[k + 1]; ++p) {
      if (last[row_[p]] >= colour_begin.back()) colour_begin.push_back(k);
    }
    for (Index p = t.place_begin[k]; p < t.place_begin[k + 1]; ++p) last[row_[p]] = k;
  }
  if (t.num_replicated() > 0) colour_begin.push_back(t.num_replicated());
  num_colours_ = static_cast<std::int32_t>(colour_begin.size()) - 1;
  add(colour_begin);
}

void IpmTables::fill(IpmKernelArgs& args, const std::int32_t* integers, const double* speed) const {
  args.num_rows = num_rows_;
  args.num_variables = num_variables_;
  args.num_experts = num_experts_;
  args.num_entries = num_entries_;
  args.num_colours = num_colours_;
  args.speed = speed;
  const std::int32_t** const tables[] = {&args.row,         &args.owner,        &args.expert_begin,
                                         &args.row_begin,   &args.row_variable, &args.entry,
                                         &args.entry_begin, &args.pair,         &args.colour_begin};
  for (std::size_t i = 0; i < std::size(tables); ++i) *tables[i] = integers + begin_[i];
}

}  // namespace lplb::solvers
