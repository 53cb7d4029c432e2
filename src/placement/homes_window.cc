// SPDX-License-Identifier: MIT
#include "placement/homes_window.h"

#include <algorithm>
#include <array>
#include <numeric>

#include "core/mix.h"

namespace lplb::placement {
namespace {

constexpr std::int64_t kUnitWeight = 1024;
constexpr std::int64_t kLeastWeight = 102;
constexpr Index kInvented = 8;
constexpr std::int64_t kInventedShare = 4;  // recorded batches count so many times as much

/// What an expert's load is multiplied by in an invented batch, in thousandths: exp(0.5 z), where z
/// are the middles of eight equal parts of the normal distribution.
constexpr std::array<std::int64_t, 8> kDrift = {464, 642, 783, 924, 1082, 1277, 1558, 2153};

void append_drifted(Index number, HomesWindow& window) {
  std::vector<std::int64_t> load(window.mean.size());
  std::int64_t total = 0;
  for (std::size_t e = 0; e < load.size(); ++e) {
    const std::uint64_t random = mix(mix(e + 1) + static_cast<std::uint64_t>(number));
    load[e] = window.mean[e] * kDrift[random % kDrift.size()];
    total += load[e];
  }
  const std::int64_t divisor = total / kBatchLoad + 1;
  for (const std::int64_t w : load) window.load.push_back(static_cast<std::int32_t>(w / divisor));
}

}  // namespace

bool to_shares(std::span<const double> from, std::vector<double>& share) {
  // NOTE: the loads are divided first by the largest, so that their sum is finite.
  const double most = *std::max_element(from.begin(), from.end());
  if (most <= 0) return false;
  double total = 0;
  for (const double w : from) total += w / most;
  share.resize(from.size());
  for (std::size_t e = 0; e < from.size(); ++e) share[e] = from[e] / most / total;
  return true;
}

std::int64_t weight_of(std::span<const double> batch, std::span<const double> last) {
  double common = 0;
  for (std::size_t e = 0; e < batch.size(); ++e) common += std::min(batch[e], last[e]);
  const double squared = common * common;
  return std::max(kLeastWeight,
                  static_cast<std::int64_t>(squared * squared * static_cast<double>(kUnitWeight)));
}

std::int64_t HomesWindow::sum_of_weights() const {
  return std::accumulate(weight.begin(), weight.end(), std::int64_t{0});
}

HomesWindow make_window(const std::vector<std::span<const double>>& batches, Index num_logical,
                        bool batches_only) {
  HomesWindow window;
  window.mean.assign(static_cast<std::size_t>(num_logical), kBatchLoad / num_logical);
  std::vector<std::vector<double>> shares;
  for (const auto& batch : batches) {
    std::vector<double> share;
    if (to_shares(batch, share)) shares.push_back(std::move(share));
  }
  if (shares.empty()) return window;

  std::fill(window.mean.begin(), window.mean.end(), 0);
  for (const auto& share : shares) {
    const std::int64_t weight = weight_of(share, shares.back());
    window.weight.push_back(weight);
    ++window.num_recorded;
    for (std::size_t e = 0; e < share.size(); ++e) {
      window.load.push_back(
          static_cast<std::int32_t>(share[e] * static_cast<double>(kBatchLoad - num_logical)));
      window.mean[e] += weight * window.load.back();
    }
  }
  const std::int64_t sum = window.sum_of_weights();
  for (std::int64_t& mean : window.mean) mean /= sum;
  if (batches_only) return window;
  const std::int64_t weight = std::max<std::int64_t>(1, sum / kInventedShare / kInvented);
  for (Index i = 0; i < kInvented; ++i) {
    append_drifted(i, window);
    window.weight.push_back(weight);
  }
  return window;
}

}  // namespace lplb::placement
