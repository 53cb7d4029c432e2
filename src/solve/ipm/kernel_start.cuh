// SPDX-License-Identifier: MIT
#pragma once

#include "solve/ipm/kernel.cuh"

// How the kernel of the interior-point solver begins.
namespace lplb::solvers {

template <int kRows, int kLanes>
__device__ bool IpmBlock<kRows, kLanes>::load() {
  const std::int64_t* const want = a_.want + std::size_t{blockIdx.x} * a_.num_experts;
  const std::int64_t* const fixed = a_.fixed + std::size_t{blockIdx.x} * a_.num_rows;
  for_all(at_.num_copied, [&](int i) { table_[i] = a_.tables[i]; });
  double part[2] = {0, 0};  // tokens, and places of experts with tokens
  for_all(a_.num_experts, [&](int k) {
    const double tokens = static_cast<double>(want[k]);
    at(at_.want, k) = tokens;
    part[0] += tokens;
    const int* const places = a_.tables + at_.expert_begin + k;
    if (tokens > 0) part[1] += places[1] - places[0];
  });
  for_all(a_.num_variables,
          [&](int p) { at(at_.x, p) = at(at_.d, p) = at(at_.part, p) = at(at_.q, p) = 0; });
  fixed_ = is_row_ ? static_cast<double>(fixed[row_]) : 0;
  speed_ = is_row_ ? a_.speed[row_] : 0;
  inverse_speed_ = is_row_ ? 1 / speed_ : 0;
  if (Matrix::lane() == 0) at(at_.speed, row_) = speed_;
  if (leads_) part[0] += fixed_;
  block_.sum(part);
  if (part[0] == 0) {
    write_nothing();
    return false;
  }
  num_products_ = part[1] + a_.num_rows;
  unit_ = part[0] / a_.num_rows;
  for_all(a_.num_experts, [&](int k) { at(at_.want, k) /= unit_; });
  fixed_ /= unit_;
  if (is_row_) {
    row_begin_ = table_[at_.row_begin + row_];
    row_end_ = table_[at_.row_begin + row_ + 1];
  }
  return true;
}

template <int kRows, int kLanes>
__device__ void IpmBlock<kRows, kLanes>::start(bool warm) {
  const double* const old = kept() + 1;
  for_experts([&](int k, int begin, int end) {
    double sum = 0;
    for (int p = begin; p < end && warm; ++p) sum += old[p];
    const double even = 1.0 / (end - begin);
    for (int p = begin; p < end; ++p) {
      const double share =
          sum > 0 ? (1 - IpmConstants::kPull) * (old[p] / sum) + IpmConstants::kPull * even : even;
      at(at_.x, p) = share * at(at_.want, k);
    }
  });
  sync_block<kThreads>();
  // T is above the largest load.
  const double load = fixed_ + row_sum(at_.x);
  double top[1] = {leads_ ? fmax(1.0, load * inverse_speed_) : 1};
  block_.reduce(top, [](int, double a, double b) { return fmax(a, b); });
  const double level = top[0] * (1 + (warm ? IpmConstants::kWarmSlack : IpmConstants::kColdSlack));
  // Slacks, and prices that balance them.
  const double old_price = warm && is_row_ ? old[a_.num_variables + row_] : 0;
  s_ = is_row_ ? level * speed_ - load : 1;
  double part[2] = {leads_ ? speed_ / s_ : 0, leads_ ? speed_ * old_price : 0};
  block_.sum(part);
  const double balanced = 1 / (part[0] * s_);
  z_ = part[1] > 0
           ? (1 - IpmConstants::kPull) * (old_price / part[1]) + IpmConstants::kPull * balanced
           : balanced;
  if (Matrix::lane() == 0) at(at_.z, row_) = z_;
  const double mu = block_.sum(leads_ ? z_ * s_ : 0) / a_.num_rows;
  // Reduced costs.
  for_experts([&](int, int begin, int end) {
    double y = kLarge;
    for (int p = begin; p < end; ++p) y = fmin(y, at(at_.z, row_of(p)) - mu / at(at_.x, p));
    for (int p = begin; p < end; ++p) at(at_.r, p) = at(at_.z, row_of(p)) - y;
  });
  sync_block<kThreads>();
}

}  // namespace lplb::solvers
