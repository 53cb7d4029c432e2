// SPDX-License-Identifier: MIT
#pragma once

#include <vector>

#include "solve/ipm/kernel_args.h"
#include "solve/solvers.h"

namespace lplb::solvers {

/// What the kernel reads of a placement. The host makes it once for each placement.
class IpmTables {
 public:
  /// Throws ArgumentError if the placement has more live ranks or places than the largest size.
  void assign(const SplitProblem::Tables& tables);

  IpmSize size() const { return size_; }  ///< the smallest of kIpmSizes that fits
  int shared_bytes() const { return shared_bytes_; }
  const std::vector<std::int32_t>& integers() const { return integers_; }
  const std::vector<double>& speed() const { return speed_; }

  /// Sets the sizes and tables of `args`. integers() and speed() are at the given addresses.
  void fill(IpmKernelArgs& args, const std::int32_t* integers, const double* speed) const;

 private:
  template <class T>
  void add(const std::vector<T>& table) {
    integers_.insert(integers_.end(), table.begin(), table.end());
  }
  void add_colours(const SplitProblem::Tables& tables);

  IpmSize size_{};
  int shared_bytes_ = 0;
  std::int32_t num_rows_ = 0, num_variables_ = 0, num_experts_ = 0, num_colours_ = 0;
  std::vector<double> speed_;
  std::vector<std::int32_t> row_;
  std::vector<std::int32_t> integers_;
};

}  // namespace lplb::solvers
