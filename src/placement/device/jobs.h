// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "placement/device/args.h"
#include "placement/homes_search.h"
#include "placement/homes_start.h"
#include "placement/homes_window.h"

namespace lplb::placement {

/// A layer to be searched. The deadline of `limits` is not used.
struct LayerJob {
  const HomesStart* start;
  const HomesWindow* window;  ///< has load
  SearchLimits limits;
};

/// What the search of a layer led to.
struct FoundLayer {
  std::vector<Index> experts;  ///< [num_slots]
  std::int64_t value_of_start = 0, value = 0, moves = 0, trials = 0;
};

/// Layers in the form in which the kernel reads them.
class PackedJobs {
 public:
  /// `jobs` is not empty. The kernel gets blocks of `num_warps` warps.
  PackedJobs(const HomesShape& shape, std::span<const LayerJob> jobs, int num_warps);

  /// All but the pointers and the time.
  const SearchArgs& args() const { return args_; }
  const std::vector<unsigned char>& image() const { return image_; }
  std::size_t result_bytes() const {
    return std::size_t{1} * args_.image_at.result_bytes * args_.num_jobs;
  }
  /// Words of SearchArgs::found for a block.
  std::size_t found_words() const;

  /// The layers of the kernel's results [result_bytes()].
  std::vector<FoundLayer> unpack(const std::vector<unsigned char>& results) const;

 private:
  void write(const HomesShape& shape, const LayerJob& job, unsigned char* to) const;

  SearchArgs args_{};
  std::vector<unsigned char> image_;
};

}  // namespace lplb::placement
