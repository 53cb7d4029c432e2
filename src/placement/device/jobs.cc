// SPDX-License-Identifier: MIT
#include "placement/device/jobs.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace lplb::placement {
namespace {

/// Hands out memory in multiples of 16 bytes.
class Layout {
 public:
  int take(std::int64_t count, std::size_t size) {
    const int at = bytes_;
    bytes_ += static_cast<int>((count * static_cast<std::int64_t>(size) + 15) / 16 * 16);
    return at;
  }
  int bytes() const { return bytes_; }

 private:
  int bytes_ = 0;
};

SearchMemory lay_out_block(const SearchSizes& s, int num_warps) {
  Layout layout;
  const int padded = s.padded_batches();
  const int slots = s.num_slots();
  const auto set = 4 * static_cast<std::size_t>(s.rank_words());
  SearchMemory at{};
  at.weight = layout.take(padded, 8);
  at.want = layout.take(std::int64_t{s.num_batches} * s.num_logical, 4);
  at.take = layout.take(std::int64_t{2} * s.num_batches * slots, 4);
  at.load = layout.take(std::int64_t{2} * s.num_batches * s.num_ranks, 4);
  at.level = layout.take(2 * padded, 4);
  at.member = layout.take(kSearchCuts, set);
  at.inverse = layout.take(kSearchCuts, 8);
  at.inside = layout.take(std::int64_t{kSearchCuts} * padded, 4);
  at.floor = layout.take(std::int64_t{kSearchCuts} * padded, 4);
  at.highest = layout.take(padded, 4);
  at.ranks = layout.take(s.num_logical, set);
  at.held = layout.take(s.num_logical, set);
  at.expert = layout.take(slots, 2);
  at.any = layout.take(s.num_logical, 2);
  at.hop = layout.take(slots, 4);
  at.num_found = layout.take(padded, 4);
  at.reached = layout.take(padded, 4);
  at.votes = layout.take(2 * num_warps, sizeof(SearchVote));
  at.lower = layout.take(std::int64_t{num_warps} * padded, 4);
  at.queue = layout.take(std::int64_t{num_warps} * s.num_ranks, 1);
  at.step = layout.take(std::int64_t{num_warps} * s.num_ranks, 4);
  at.scalars = layout.take(1, sizeof(SearchScalars));
  at.bytes = layout.bytes();
  return at;
}

SearchImage lay_out_image(const SearchSizes& s) {
  Layout layout;
  SearchImage at{};
  layout.take(1, sizeof(SearchJob));
  at.weight = layout.take(s.num_batches, 8);
  at.load = layout.take(std::int64_t{s.num_batches} * s.num_logical, 4);
  at.experts = layout.take(s.num_slots(), 4);
  at.lists = layout.take(s.num_slots(), 4);
  at.held = layout.take(std::int64_t{s.num_logical} * s.rank_words(), 4);
  at.bytes = layout.bytes();
  Layout result;
  result.take(1, sizeof(SearchResult));
  result.take(s.num_slots(), 4);
  at.result_bytes = result.bytes();
  return at;
}

template <class T>
void copy_to(unsigned char* to, const std::vector<T>& from) {
  if (!from.empty()) std::memcpy(to, from.data(), from.size() * sizeof(T));
}

std::int64_t pairs_of(std::size_t count) {
  const auto n = static_cast<std::int64_t>(count);
  return n * (n - 1) / 2;
}

}  // namespace

PackedJobs::PackedJobs(const HomesShape& shape, std::span<const LayerJob> jobs, int num_warps) {
  SearchSizes& sizes = args_.sizes;
  sizes = {shape.num_ranks, shape.slots, shape.num_logical, 0};
  std::int64_t most = 1;
  for (const LayerJob& job : jobs) {
    sizes.num_batches = std::max(sizes.num_batches, static_cast<int>(job.window->weight.size()));
    const SearchSlots slots(shape, *job.start, job.limits.move_homes);
    most = std::max({most, static_cast<std::int64_t>(slots.free.size()) * shape.num_logical,
                     pairs_of(slots.free.size()), pairs_of(slots.homes.size())});
  }
  // The sort fills its list up to a power of two.
  args_.most_candidates =
      static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(most)));
  args_.num_jobs = static_cast<int>(jobs.size());
  args_.image_at = lay_out_image(sizes);
  args_.at = lay_out_block(sizes, num_warps);
  args_.nanoseconds = -1;
  const auto stride = static_cast<std::size_t>(args_.image_at.bytes);
  image_.assign(stride * jobs.size(), 0);
  for (std::size_t i = 0; i < jobs.size(); ++i) write(shape, jobs[i], image_.data() + i * stride);
}

void PackedJobs::write(const HomesShape& shape, const LayerJob& job, unsigned char* to) const {
  const SearchImage& at = args_.image_at;
  const SearchSlots slots(shape, *job.start, job.limits.move_homes);
  const SearchJob header{.max_trials = job.limits.max_trials,
                         .max_moves = job.limits.max_moves,
                         .least_gain = job.limits.least_gain,
                         .move_gain = job.limits.move_gain,
                         .home_gain = job.limits.home_gain,
                         .moves_of_start = slots.moves_of_start,
                         .num_batches = static_cast<int>(job.window->weight.size()),
                         .num_free = static_cast<int>(slots.free.size()),
                         .num_homes = static_cast<int>(slots.homes.size())};
  std::memcpy(to, &header, sizeof(header));
  copy_to(to + at.weight, job.window->weight);
  copy_to(to + at.load, job.window->load);
  copy_to(to + at.experts, job.start->experts);
  copy_to(to + at.lists, slots.free);
  copy_to(to + at.lists + 4 * slots.free.size(), slots.homes);
  const auto words = static_cast<std::size_t>(args_.sizes.rank_words());
  std::vector<std::uint32_t> held(static_cast<std::size_t>(shape.num_logical) * words, 0);
  for (Index e = 0; e < shape.num_logical; ++e) {
    for (Index g = 0; g < shape.num_ranks; ++g) {
      if (job.start->is_new(e, g, shape.num_logical)) continue;
      held[static_cast<std::size_t>(e) * words + static_cast<std::size_t>(g) / 32] |= 1U << g % 32;
    }
  }
  copy_to(to + at.held, held);
}

std::size_t PackedJobs::found_words() const {
  const auto ranks = static_cast<std::size_t>(args_.sizes.num_ranks);
  return static_cast<std::size_t>(args_.sizes.num_batches) * ranks * ranks *
         static_cast<std::size_t>(args_.sizes.rank_words() + 1);
}

std::vector<FoundLayer> PackedJobs::unpack(const std::vector<unsigned char>& results) const {
  std::vector<FoundLayer> layers(static_cast<std::size_t>(args_.num_jobs));
  const unsigned char* from = results.data();
  for (FoundLayer& layer : layers) {
    SearchResult result{};
    std::memcpy(&result, from, sizeof(result));
    layer.value_of_start = result.value_of_start;
    layer.value = result.value;
    layer.moves = result.moves;
    layer.trials = result.trials;
    layer.experts.resize(static_cast<std::size_t>(args_.sizes.num_slots()));
    std::memcpy(layer.experts.data(), from + sizeof(result), 4 * layer.experts.size());
    from += args_.image_at.result_bytes;
  }
  return layers;
}

}  // namespace lplb::placement
