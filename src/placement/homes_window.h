// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "placement/homes_judge.h"

namespace lplb::placement {

/// The loads of a layer in a window of batches, in the unit of WindowJudge.
struct HomesWindow {
  std::vector<std::int32_t> load;    ///< [batches, num_logical]: the recorded ones, then invented
  std::vector<std::int64_t> weight;  ///< [batches]
  Index num_recorded = 0;
  std::vector<std::int64_t> mean;  ///< [num_logical]: the weighted mean of the recorded batches
  std::int64_t sum_of_weights() const;
};

/// Scales loads so that they sum to one. Returns false if there is no load.
bool to_shares(std::span<const double> from, std::vector<double>& share);

/// What a batch counts if the last one counts 1024, by the shares of both: the part that they have
/// in common, to the fourth power; at least a tenth.
std::int64_t weight_of(std::span<const double> batch, std::span<const double> last);

/// `batches`: each [num_logical]. Those without load are left out; if all are, so is everything but
/// `mean`, which is then the same for all experts.
HomesWindow make_window(const std::vector<std::span<const double>>& batches, Index num_logical,
                        bool batches_only);

}  // namespace lplb::placement
