// SPDX-License-Identifier: MIT
#pragma once

#include <chrono>
#include <cstdlib>
#include <functional>
#include <memory>
#include <numeric>
#include <vector>

#include "exchange/peer/test_group.h"
#include "plan/quotas_test_support.h"

// Groups of DevicePlanners that exchange their counts. Each planner has a model on the CPU.
namespace lplb::testing {

inline int rounds_or(int quick) {
  const char* const text = std::getenv("LPLB_EXCHANGE_ROUNDS");
  return text != nullptr ? std::atoi(text) : quick;
}

/// Each rank has 8 experts, and replicas of 6 experts of the next rank. So what a rank maps depends
/// on the counts of all ranks.
inline Placement chained_placement(Index num_ranks) {
  std::vector<Index> map;
  for (Index g = 0; g < num_ranks; ++g) {
    for (Index e = 0; e < 8; ++e) map.push_back(g * 8 + e);
    for (Index r = 0; r < 6; ++r) map.push_back((g + 1) % num_ranks * 8 + r);
  }
  return make_placement(num_ranks, 8 * num_ranks, map);
}

/// 8 ranks have 8 experts each, and `redundants` copies: one of an expert of each of the next
/// ranks, from the `shift`-th one on.
inline Placement spread_placement(Index shift, Index redundants) {
  std::vector<Index> map;
  for (Index g = 0; g < 8; ++g) {
    for (Index e = 0; e < 8; ++e) map.push_back(g * 8 + e);
    for (Index r = 0; r < redundants; ++r) map.push_back((g + shift + r) % 8 * 8 + r);
  }
  return make_placement(8, 64, map);
}

/// A channel of a PeerGroup behind an interface that hides it, so that it runs as an exchange of
/// the user's and not in the plan's kernel.
class Outside : public DeviceExchange {
 public:
  explicit Outside(std::shared_ptr<DeviceExchange> channel) : channel_(std::move(channel)) {}
  Index num_ranks() const override { return channel_->num_ranks(); }
  Index rank() const override { return channel_->rank(); }
  std::size_t max_counts() const override { return channel_->max_counts(); }
  void all_gather(StreamHandle stream, const DeviceGather& gather) override {
    channel_->all_gather(stream, gather);
  }
  DeviceExchangeStats stats(StreamHandle stream) override { return channel_->stats(stream); }

 private:
  std::shared_ptr<DeviceExchange> channel_;
};

inline std::shared_ptr<DeviceExchange> outside(std::shared_ptr<DeviceExchange> channel) {
  return std::make_shared<Outside>(std::move(channel));
}

/// All members of a group, each with its planner on the device and its model on the CPU. They are
/// all ranks of the placement, or with `live_only` the live ones.
class ExchangingRanks {
 public:
  /// Makes the exchange that is used in place of a channel.
  using Wrap = std::function<std::shared_ptr<DeviceExchange>(std::shared_ptr<DeviceExchange>)>;
  ExchangingRanks(const Placement& p, const PlannerOptions& options,
                  DevicePlannerOptions device_options,
                  std::chrono::microseconds deadline = std::chrono::seconds(10),
                  const Wrap& wrap = {}, bool live_only = false)
      : is_stale(options.staleness != 0),
        ranks(live_only ? live_ranks(p) : all_ranks(p)),
        groups_(
            PeerGroup::in_process(std::vector<int>(ranks.size(), 0),
                                  {.max_counts = static_cast<std::size_t>(most_counts(p, options)),
                                   .deadline = deadline})) {
    for (std::size_t i = 0; i < ranks.size(); ++i) {
      const Index g = ranks[i];
      exchanges.push_back(groups_[i].channel(0));
      if (wrap) exchanges.back() = wrap(exchanges.back());
      device_options.exchange = exchanges.back();
      device.push_back(std::make_unique<DeviceRank>(p, g, options, device_options));
      host.push_back(std::make_unique<HostRank>(p, g, options));
    }
  }

  void set(const GroupBatch& batch, int id_bytes = 4) {
    for (std::size_t i = 0; i < device.size(); ++i) {
      device[i]->set(topk_of(batch, i), batch.packed, id_bytes);
      device[i]->batch.all_counts = nullptr;
    }
  }
  void run(std::size_t num_ranks) {
    for (std::size_t g = 0; g < num_ranks; ++g) {
      device[g]->planner.run(device[g]->stream.get(), device[g]->batch);
    }
  }
  /// `lost`: how many batches were lost so far.
  void expect_solved(const GroupBatch& batch, std::int64_t lost = 0) {
    for (std::size_t g = 0; g < device.size(); ++g) {
      EXPECT_EQ(device[g]->stats().lost, g == 7 ? 0 : lost);
      ASSERT_EQ(device[g]->result(), host[g]->run(topk_of(batch, g), batch.counts))
          << "rank " << ranks[g];
      EXPECT_EQ(device[g]->stats().last_status, host[g]->last_status);
      EXPECT_EQ(device[g]->stats().check_failures, 0);
    }
  }
  /// Draws a batch for the placement of the ranks, and runs it on all of them.
  void expect_drawn_solved(const BatchShape& shape, SplitMix64& random, int id_bytes = 4) {
    const Placement& p = device[0]->planner.placement();
    const bool has_all = ranks.size() == static_cast<std::size_t>(p.num_ranks);
    const GroupBatch batch =
        has_all ? draw_batch(p, shape, random) : draw_live_batch(p, shape, random);
    set(batch, id_bytes);
    run(device.size());
    expect_solved(batch);
  }
  /// The quotas that each rank writes are those of the latest split, and of `batch`.
  void expect_quotas(const GroupBatch& batch) {
    const std::vector<Load> counts(batch.packed.begin(), batch.packed.end());
    for (std::size_t g = 0; g < device.size(); ++g) {
      const Placement& p = device[g]->planner.placement();
      HostTables want(p, p.max_replicas);
      write_quotas(p, PackedLayout(p), counts, host[g]->planner.last_split().physical_load,
                   ranks[g], want.outputs(p.max_replicas));
      EXPECT_TRUE(from_device(*device[g], p.max_replicas) == want) << "rank " << g;
    }
  }
  void expect_degraded(const GroupBatch& batch, std::size_t g) {
    ASSERT_EQ(device[g]->result(), host[g]->run_alone(batch.topk[g], batch.counts)) << "rank " << g;
    EXPECT_EQ(device[g]->stats().last_status, BatchStatus::kDegraded);
    EXPECT_EQ(device[g]->stats().check_failures, 0);
  }
  void update(const Placement& next) {
    for (std::size_t g = 0; g < device.size(); ++g) {
      device[g]->planner.update_placement(device[g]->stream.get(), next);
      host[g]->planner.update_placement(next);
    }
  }

  const bool is_stale;
  const std::vector<Index> ranks;
  std::vector<std::shared_ptr<DeviceExchange>> exchanges;
  std::vector<std::unique_ptr<DeviceRank>> device;
  std::vector<std::unique_ptr<HostRank>> host;

 private:
  static std::vector<Index> all_ranks(const Placement& p) {
    std::vector<Index> all(static_cast<std::size_t>(p.num_ranks));
    std::iota(all.begin(), all.end(), 0);
    return all;
  }
  const std::vector<std::int64_t>& topk_of(const GroupBatch& batch, std::size_t member) const {
    return batch.topk[static_cast<std::size_t>(ranks[member])];
  }
  static Index most_counts(const Placement& p, const PlannerOptions& options) {
    if (options.dynamic_slots > 0) return p.num_logical_experts;
    const Index redundants = options.max_redundants != 0 ? options.max_redundants
                                                         : p.num_physical() - p.num_logical_experts;
    return p.num_ranks + std::min(redundants, p.num_logical_experts);
  }
  std::vector<PeerGroup> groups_;
};

/// Batches whose results are known, which run on all ranks again and again. With staleness, prime()
/// comes first.
class PooledBatches {
 public:
  PooledBatches(ExchangingRanks& group, const Placement& p, const BatchShape& shape, int size,
                SplitMix64& random)
      : group_(group), entries_(group.device.size()) {
    for (std::size_t g = 0; g < group.device.size(); ++g) {
      logs_.push_back(std::make_unique<DeviceVector<RoundLog>>(std::vector<RoundLog>(1)));
      out_.push_back(std::make_unique<DeviceVector<std::int32_t>>(
          std::vector<std::int32_t>(static_cast<std::size_t>(shape.max_tokens * shape.num_topk))));
    }
    std::vector<GroupBatch> batches;
    for (int i = 0; i < size; ++i) batches.push_back(draw_batch(p, shape, random));
    std::size_t changed = 0;
    for (std::size_t g = 0; g < group.device.size(); ++g) {
      HostRank& host = *group.host[g];
      if (group.is_stale) host.run(batches.back().topk[g], batches.back().counts);
      const GroupBatch* last = &batches.back();
      for (const GroupBatch& batch : batches) {
        const auto want = host.run(batch.topk[g], batch.counts);
        const auto alone = group.is_stale ? map_stale(p, of_one(last->counts, p, g),
                                                      static_cast<Index>(g), batch.topk[g])
                                          : host.run(batch.topk[g], of_one(batch.counts, p, g));
        changed += alone != want ? 1 : 0;
        add(g, batch.topk[g], want, shape.num_topk);
        last = &batch;
      }
    }
    // Without the other ranks' counts, many tokens would be mapped elsewhere.
    EXPECT_GT(changed, static_cast<std::size_t>(size) * group.device.size() / 4);
  }

  /// Runs the batch that precedes the first round.
  void prime() {
    for (std::size_t g = 0; g < entries_.size(); ++g) plan(entries_[g].back(), g);
    num_primed_ = 1;
  }

  void enqueue(int round, std::size_t g, unsigned most_ns) {
    const Entry& entry = entries_[g][static_cast<std::size_t>(round) % entries_[g].size()];
    const auto stream = group_.device[g]->stream.get();
    launch_delay(logs_[g]->data(), static_cast<int>(g), most_ns, stream);
    plan(entry, g);
    launch_compare(logs_[g]->data(), out_[g]->data(), entry.want->data(),
                   static_cast<int>(entry.want->size()), stream);
  }

  /// Runs rounds of all ranks, delayed at random. After every hundredth, the same placement is put
  /// into force again, so that the image is rewritten between batches.
  void run(int rounds) {
    for (int round = 0; round < rounds; ++round) {
      for (std::size_t g = 0; g < entries_.size(); ++g) {
        enqueue(round, g, round % 3 == 0 ? 0 : 10000);
        if (round % 100 != 99) continue;
        DevicePlanner& planner = group_.device[g]->planner;
        planner.update_placement(group_.device[g]->stream.get(), Placement(planner.placement()));
      }
    }
  }
  /// Captures one graph for each rank, with each of the pool's batches, and launches it `replays`
  /// times.
  void replay(int replays) {
    std::vector<std::unique_ptr<CapturedGraph>> graphs;
    for (std::size_t g = 0; g < entries_.size(); ++g) {
      DevicePlanner& planner = group_.device[g]->planner;
      const cudaStream_t stream = group_.device[g]->stream.get();
      planner.join(stream);
      auto& graph = graphs.emplace_back(std::make_unique<CapturedGraph>(stream));
      for (std::size_t i = 0; i < entries_[g].size(); ++i) enqueue(static_cast<int>(i), g, 2000);
      planner.join(stream);
      graph->end();
    }
    for (int i = 0; i < replays; ++i) {
      for (const auto& graph : graphs) graph->launch();
    }
  }

  void expect_right(long rounds) {
    for (std::size_t g = 0; g < logs_.size(); ++g) {
      LPLB_CUDA_CHECK(cudaStreamSynchronize(group_.device[g]->stream.get()));
      const RoundLog log = logs_[g]->get()[0];
      EXPECT_EQ(log.round, static_cast<unsigned long long>(rounds));
      EXPECT_EQ(log.wrong, 0u) << "rank " << g;
      EXPECT_EQ(group_.device[g]->stats().lost, 0);
      EXPECT_EQ(group_.device[g]->stats().batches, rounds + num_primed_);
      EXPECT_EQ(group_.device[g]->stats().unplanned, num_primed_);
    }
  }

 private:
  struct Entry {
    std::int64_t tokens;
    std::unique_ptr<DeviceVector<std::int32_t>> topk, want;
  };

  /// The counts of rank `g`, with zeros for the others.
  static std::vector<Load> of_one(const std::vector<Load>& counts, const Placement& p,
                                  std::size_t g) {
    const auto num_logical = static_cast<std::size_t>(p.num_logical_experts);
    std::vector<Load> own(counts.size(), 0);
    const auto row = static_cast<std::ptrdiff_t>(g * num_logical);
    std::copy_n(counts.begin() + row, num_logical, own.begin() + row);
    return own;
  }
  void add(std::size_t g, const std::vector<std::int64_t>& topk,
           const std::vector<std::int64_t>& want, Index num_topk) {
    const auto narrow = [](const std::vector<std::int64_t>& ids) {
      return std::make_unique<DeviceVector<std::int32_t>>(
          std::vector<std::int32_t>(ids.begin(), ids.end()));
    };
    entries_[g].push_back(
        {static_cast<std::int64_t>(topk.size()) / num_topk, narrow(topk), narrow(want)});
  }
  void plan(const Entry& entry, std::size_t g) {
    DeviceBatch batch;
    batch.topk_idx = entry.topk->data();
    batch.num_tokens = entry.tokens;
    batch.physical_idx = out_[g]->data();
    group_.device[g]->planner.run(group_.device[g]->stream.get(), batch);
  }

  ExchangingRanks& group_;
  std::vector<std::unique_ptr<DeviceVector<RoundLog>>> logs_;
  std::vector<std::unique_ptr<DeviceVector<std::int32_t>>> out_;
  std::vector<std::vector<Entry>> entries_;  // of each rank
  long num_primed_ = 0;
};

}  // namespace lplb::testing
