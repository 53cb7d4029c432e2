// SPDX-License-Identifier: MIT
#include "exchange/rail/exchange.h"

#include <string>
#include <utility>

#include "core/check.h"
#include "core/device.h"
#include "core/format.h"
#include "exchange/peer/memory.h"
#include "exchange/rail/two_level.h"
#include "lplb/error.h"

namespace lplb {
namespace {

class RailExchange : public DeviceExchange {
 public:
  RailExchange(const RailOptions& options, std::shared_ptr<DeviceExchange> domain_exchange,
               std::unique_ptr<exchange::RailMemory> memory)
      : options_(options),
        domain_exchange_(std::move(domain_exchange)),
        memory_(std::move(memory)),
        row_(static_cast<std::size_t>(options.num_domains) * options.max_counts),
        control_(1),
        host_control_(1) {
    args_.rail.own = memory_->own();
    args_.rail.deadline_ns = exchange::deadline_ns(options.deadline);
    args_.rail.layout = exchange::layout_of(options).lines;
    args_.rail.rank = options.domain;
    if (domain_exchange_ != nullptr) args_.domain = *exchange::peer_args(*domain_exchange_);
    args_.row = row_.get();
    args_.control = control_.get();
    memory_->prepare();
    device::Stream stream;
    LPLB_CUDA_CHECK(
        cudaMemsetAsync(control_.get(), 0, sizeof(exchange::ExchangeControl), stream.get()));
    // The row is also sent on if the round is lost, with any contents, so it must not be
    // uninitialized.
    LPLB_CUDA_CHECK(
        cudaMemsetAsync(row_.get(), 0, row_.capacity() * sizeof(std::int32_t), stream.get()));
    LPLB_CUDA_CHECK(cudaStreamSynchronize(stream.get()));
  }

  Index num_ranks() const override {
    return exchange::rank_of(options_, domain_exchange_.get()).num_ranks;
  }
  Index rank() const override { return exchange::rank_of(options_, domain_exchange_.get()).rank; }
  std::size_t max_counts() const override { return options_.max_counts; }

  void all_gather(StreamHandle stream, const DeviceGather& g) override {
    exchange::check_gather(*this, g);
    exchange::RailArgs args = args_;
    args.mine = g.mine;
    args.all = g.all;
    args.outcome = g.outcome;
    args.num_counts = static_cast<int>(g.num_counts);
    args.fingerprint = g.fingerprint;
    memory_->launch(args, stream);
  }

  DeviceExchangeStats stats(StreamHandle stream) override {
    DeviceExchangeStats stats = exchange::read_stats(control_.get(), host_control_.get(), stream);
    const auto* const rail = reinterpret_cast<const exchange::ExchangeControl*>(args_.rail.own);
    const exchange::RailRank here = exchange::rank_of(options_, domain_exchange_.get());
    stats.last_missing = exchange::missing_of_levels(
        options_.domain, here.rank_in_domain(), here.domain_size,
        domain_exchange_ != nullptr ? domain_exchange_->stats(stream).last_missing : -1,
        exchange::read_stats(rail, host_control_.get(), stream).last_missing);
    return stats;
  }

 private:
  const RailOptions options_;
  const std::shared_ptr<DeviceExchange> domain_exchange_;
  const std::unique_ptr<exchange::RailMemory> memory_;
  device::Array<std::int32_t> row_;
  device::Array<exchange::ExchangeControl> control_;
  device::HostArray<exchange::ExchangeControl> host_control_;
  exchange::RailArgs args_{};
};

void check_options(const RailOptions& options) {
  const Index num_domains = options.num_domains;
  check_argument(num_domains >= 1 && num_domains <= kMaxRanks, "num_domains",
                 "{} is not between 1 and {}", num_domains, kMaxRanks);
  check_argument(options.domain >= 0 && options.domain < num_domains, "domain",
                 "{} is not between 0 and {}", options.domain, num_domains - 1);
  constexpr std::size_t kMost = kMaxPhysical + kMaxRanks;
  check_argument(options.max_counts >= 1 && options.max_counts <= kMost, "max_counts",
                 "{} is not between 1 and {}", options.max_counts, kMost);
  check_argument(options.deadline.count() > 0, "deadline", "{} us is not > 0",
                 options.deadline.count());
}

}  // namespace

void exchange::check_rail(const RailOptions& options, const DeviceExchange* domain_exchange,
                          const AllGatherBytes& all_gather) {
  check_options(options);
  const Index num_domains = options.num_domains;
  check_argument(static_cast<bool>(all_gather), "all_gather", "is empty");
  if (domain_exchange == nullptr) return;
  check_argument(exchange::peer_args(*domain_exchange) != nullptr, "domain_exchange",
                 "is not a channel of a PeerGroup");
  const std::size_t least = static_cast<std::size_t>(num_domains) * options.max_counts + 1;
  check_argument(domain_exchange->max_counts() >= least, "domain_exchange",
                 "has room for {} counts, expected num_domains * max_counts + 1 ({})",
                 domain_exchange->max_counts(), least);
  const Index num_ranks = exchange::rank_of(options, domain_exchange).num_ranks;
  check_argument(num_ranks <= kMaxRanks, "domain_exchange", "makes {} ranks, expected at most {}",
                 num_ranks, kMaxRanks);
}

exchange::RailLayout exchange::layout_of(const RailOptions& options) {
  return exchange::RailLayout::of(options.num_domains,
                                  static_cast<std::int64_t>(options.max_counts));
}

exchange::RailRank exchange::rank_of(const RailOptions& options,
                                     const DeviceExchange* domain_exchange) {
  const Index domain_size = domain_exchange != nullptr ? domain_exchange->num_ranks() : 1;
  const Index rank_in_domain = domain_exchange != nullptr ? domain_exchange->rank() : 0;
  return {options.domain * domain_size + rank_in_domain, options.num_domains * domain_size,
          domain_size};
}

std::size_t rail_buffer_bytes(const RailOptions& options) {
  check_options(options);
  return static_cast<std::size_t>(exchange::layout_of(options).bytes());
}

std::shared_ptr<DeviceExchange> exchange::connect_rail(
    const RailOptions& options, std::shared_ptr<DeviceExchange> domain_exchange,
    const AllGatherBytes& all_gather, std::unique_ptr<exchange::RailMemory> memory) {
  const exchange::Agreement agreement(exchange::rank_of(options, domain_exchange.get()).num_ranks,
                                      all_gather);
  exchange::Agreement::require_same(
      agreement.tell(
          {formatted("{} domains, max_counts {}", options.num_domains, options.max_counts)}),
      0);
  std::vector<exchange::Agreement::Bytes> offers, done;
  std::shared_ptr<DeviceExchange> exchange;
  exchange::RailMemory& mine = *memory;
  std::string trouble = agreement.run([&] { return mine.offer(); }, &offers);
  if (trouble.empty()) {
    trouble = agreement.run(
        [&] {
          mine.accept(offers);
          exchange = std::make_shared<RailExchange>(options, std::move(domain_exchange),
                                                    std::move(memory));
          return exchange::Agreement::Bytes();
        },
        &done);
  }
  if (!trouble.empty()) throw ExchangeError("no exchange along the rail: " + trouble);
  mine.settle();
  return exchange;
}

}  // namespace lplb
