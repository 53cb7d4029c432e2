// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "exchange/peer/test_group.h"
#include "exchange/weights/test_kernels.h"
#include "lplb/device_weights.h"
#include "support/device_vector.h"
#include "support/instances.h"

// Ranks whose weights are known words, so that every copy can be checked on the device.
namespace lplb::testing {

/// Ranks of `experts` experts each, in order; none is replicated.
inline Placement homes(Index num_ranks, Index experts) {
  std::vector<Index> map(static_cast<std::size_t>(num_ranks * experts));
  for (std::size_t i = 0; i < map.size(); ++i) map[i] = static_cast<Index>(i);
  return make_placement(num_ranks, num_ranks * experts, map);
}

/// One batch, the same on all ranks: the plan [num_ranks, S], and the experts that change before
/// it.
struct CopyBatch {
  std::vector<std::int32_t> expert, source;
  std::vector<Index> changes;
  std::vector<std::int32_t> versions;  // of each expert, after the changes

  bool operator==(const CopyBatch&) const = default;
};

inline std::vector<CopyBatch> draw_copies(const Placement& p, Index slots, int count,
                                          std::uint64_t seed) {
  SplitMix64 random(seed);
  std::vector<CopyBatch> batches(static_cast<std::size_t>(count));
  std::vector<std::int32_t> versions(static_cast<std::size_t>(p.num_logical_experts), 0);
  const Index per_rank = p.slots_per_rank();
  for (std::size_t b = 0; b < batches.size(); ++b) {
    CopyBatch& batch = batches[b];
    for (Index g = 0; g < p.num_ranks; ++g) {
      for (Index s = 0; s < slots; ++s) {
        const Index e = random.below(p.num_logical_experts);
        const bool is_used = e / per_rank != g && random.below(5) != 0;
        batch.expert.push_back(is_used ? e : -1);
        batch.source.push_back(is_used ? e / per_rank : -1);
      }
    }
    if (b % 4 == 3) {  // a plan that comes twice, so that slots are kept
      batch.expert = batches[b - 1].expert;
      batch.source = batches[b - 1].source;
    }
    for (Index i = random.below(3); i > 0; --i) {
      const Index e = random.below(p.num_logical_experts);
      if (std::find(batch.changes.begin(), batch.changes.end(), e) != batch.changes.end()) continue;
      batch.changes.push_back(e);
      ++versions[static_cast<std::size_t>(e)];
    }
    batch.versions = versions;
  }
  // All experts change before the first batch, so that the batches can be run again and again.
  batches[0].changes.clear();
  for (Index e = 0; e < p.num_logical_experts; ++e) batches[0].changes.push_back(e);
  return batches;
}

/// What a rank copies and keeps in `rounds` complete batches.
struct CopyCount {
  std::int64_t copied = 0, skipped = 0;
  bool operator==(const CopyCount&) const = default;
};
inline CopyCount count_copies(const std::vector<CopyBatch>& batches, Index rank, Index slots,
                              int rounds) {
  // What each slot holds: an expert and how often it had changed.
  std::vector<std::pair<std::int32_t, int>> held(static_cast<std::size_t>(slots), {-1, 0});
  std::vector<int> changes(batches[0].versions.size(), 0);
  CopyCount count;
  for (int round = 0; round < rounds; ++round) {
    const CopyBatch& batch = batches[static_cast<std::size_t>(round) % batches.size()];
    for (const Index e : batch.changes) ++changes[static_cast<std::size_t>(e)];
    for (Index s = 0; s < slots; ++s) {
      const std::int32_t e = batch.expert[static_cast<std::size_t>(rank * slots + s)];
      if (e < 0) continue;
      const std::pair<std::int32_t, int> wanted{e, changes[static_cast<std::size_t>(e)]};
      auto& now = held[static_cast<std::size_t>(s)];
      ++(now == wanted ? count.skipped : count.copied);
      now = wanted;
    }
  }
  return count;
}

/// One rank with its stream. It holds all batches in device memory.
class WeightRank {
 public:
  WeightRank(std::unique_ptr<DeviceWeightExchange> weights, Index rank, const Placement& p,
             const DeviceWeightLayout& layout, Index slots, std::vector<CopyBatch> batches)
      : exchange(std::move(weights)),
        rank_(rank),
        slots_(slots),
        per_rank_(p.slots_per_rank()),
        layout_(layout),
        batches_(std::move(batches)) {
    std::vector<std::int32_t> expert, source, versions;
    for (const CopyBatch& b : batches_) {
      expert.insert(expert.end(), b.expert.begin(), b.expert.end());
      source.insert(source.end(), b.source.begin(), b.source.end());
      versions.insert(versions.end(), b.versions.begin(), b.versions.end());
    }
    expert_.set(expert);
    source_.set(source);
    versions_.set(versions);
    is_held_.set(std::vector<std::int32_t>(static_cast<std::size_t>(slots), -1));
    outcome_.set({-1});
    log_.set({CopyLog{}});
    round_.set({RoundLog{}});
    for (Index i = 0; i < per_rank_; ++i) fill(rank_ * per_rank_ + i, 0);
  }

  /// Changes what batch `number` changes, waits up to `most_ns`, fetches and checks.
  void enqueue(int number, unsigned most_ns = 0) {
    const std::size_t at = static_cast<std::size_t>(number) % batches_.size();
    const CopyBatch& batch = batches_[at];
    for (const Index e : batch.changes) {
      if (e / per_rank_ != rank_) continue;
      fill(e, batch.versions[static_cast<std::size_t>(e)]);
      exchange->update(stream.get(), 0, e % per_rank_, 1);
    }
    if (most_ns != 0) launch_delay(round_.data(), rank_ + 7 * number, most_ns, stream.get());
    fetch(number);
    const std::size_t own = at * batch.expert.size() + static_cast<std::size_t>(rank_ * slots_);
    for (Index s = 0; s < slots_; ++s) {
      for (std::size_t t = 0; t < layout_.tensor_bytes.size(); ++t) {
        const auto tensor = static_cast<Index>(t);
        const auto* const slot = static_cast<const unsigned char*>(exchange->dynamic(0, tensor)) +
                                 s * exchange->stride(tensor);
        launch_check(log_.data(), reinterpret_cast<const std::uint32_t*>(slot),
                     layout_.tensor_bytes[t] / 4, expert_.data() + own + s, is_held_.data() + s,
                     outcome_.data(), versions_.data() + at * batch.versions.size(), tensor,
                     stream.get());
      }
    }
  }

  void fetch(int number) {
    const std::size_t at = static_cast<std::size_t>(number) % batches_.size();
    const std::size_t size = batches_[at].expert.size();
    exchange->fetch(stream.get(), 0,
                    {.slot_expert = expert_.data() + at * size,
                     .slot_source = source_.data() + at * size,
                     .is_held = is_held_.data(),
                     .outcome = outcome_.data()});
  }

  void wait() const { LPLB_CUDA_CHECK(cudaStreamSynchronize(stream.get())); }
  CopyLog log() const {
    wait();
    return log_.get()[0];
  }
  std::int32_t outcome() const {
    wait();
    return outcome_.get()[0];
  }
  std::vector<std::int32_t> is_held() const {
    wait();
    return is_held_.get();
  }
  DeviceWeightStats stats() { return exchange->stats(stream.get()); }

  device::Stream stream;
  std::unique_ptr<DeviceWeightExchange> exchange;

 private:
  void fill(Index expert, int version) {
    for (std::size_t t = 0; t < layout_.tensor_bytes.size(); ++t) {
      const auto tensor = static_cast<Index>(t);
      auto* const slot = static_cast<unsigned char*>(exchange->main(0, tensor)) +
                         static_cast<std::size_t>(expert % per_rank_) * exchange->stride(tensor);
      launch_fill(reinterpret_cast<std::uint32_t*>(slot), layout_.tensor_bytes[t] / 4, expert,
                  tensor, version, stream.get());
    }
  }

  const Index rank_, slots_, per_rank_;
  const DeviceWeightLayout layout_;
  const std::vector<CopyBatch> batches_;
  DeviceVector<std::int32_t> expert_, source_, versions_, is_held_, outcome_;
  DeviceVector<CopyLog> log_;
  DeviceVector<RoundLog> round_;
};

}  // namespace lplb::testing
