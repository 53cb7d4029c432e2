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
  std::vector<std::int32_t> row_place;
  for (const SplitProblem::Tables::Place& place : t.place) row_.push_back(row_of_rank[place.rank]);
  for (const Index g : t.live_ranks) {
    for (Index i = t.incident_begin[g]; i < t.incident_begin[g + 1]; ++i) {
      const Index k = t.place_owner[t.incident[i]];
      const Index count = t.place_begin[k + 1] - t.place_begin[k];
      row_place.push_back(t.incident[i] | t.place_begin[k] << kIpmPlaceBits |
                          (count - 1) << 2 * kIpmPlaceBits);
    }
    row_begin.push_back(static_cast<std::int32_t>(row_place.size()));
  }

  // The order is that of IpmSharedLayout.
  integers_.clear();
  add(row_);
  add(t.place_owner);
  add(t.place_begin);
  add(row_begin);
  add(row_place);
  add_colours(t);
  IpmKernelArgs args{};
  fill(args, nullptr, nullptr);
  shared_bytes_ = IpmSharedLayout(size_.rows, size_.lanes, args).bytes;
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
  args.num_colours = num_colours_;
  args.speed = speed;
  args.tables = integers;
}

}  // namespace lplb::solvers
