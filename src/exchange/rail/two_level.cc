// SPDX-License-Identifier: MIT
#include "exchange/rail/two_level.h"

#include <algorithm>

#include "core/check.h"
#include "core/device.h"
#include "exchange/peer/memory.h"

namespace lplb {
namespace {

class TwoLevelExchange : public DeviceExchange {
 public:
  TwoLevelExchange(std::shared_ptr<DeviceExchange> rail, std::shared_ptr<DeviceExchange> domain)
      : rail_(std::move(rail)),
        domain_(std::move(domain)),
        row_(row_size(max_counts())),
        rows_(row_size(max_counts()) * static_cast<std::size_t>(domain_->num_ranks())),
        outcome_(1),
        control_(1),
        host_control_(1) {
    exchange::prepare_two_level();
    device::Stream stream;
    // The row is also sent on if the round is lost, with any contents, so it must not be
    // uninitialized.
    LPLB_CUDA_CHECK(
        cudaMemsetAsync(row_.get(), 0, row_.capacity() * sizeof(std::int32_t), stream.get()));
    LPLB_CUDA_CHECK(
        cudaMemsetAsync(control_.get(), 0, sizeof(exchange::ExchangeControl), stream.get()));
    LPLB_CUDA_CHECK(cudaStreamSynchronize(stream.get()));
  }

  Index num_ranks() const override { return rail_->num_ranks() * domain_->num_ranks(); }
  Index rank() const override { return rail_->rank() * domain_->num_ranks() + domain_->rank(); }
  std::size_t max_counts() const override {
    return std::min(rail_->max_counts(), (domain_->max_counts() - 1) / num_domains());
  }

  void all_gather(StreamHandle stream, const DeviceGather& g) override {
    exchange::check_gather(*this, g);
    DeviceGather along = g;
    along.all = row_.get();
    along.outcome = row_.get() + num_domains() * g.num_counts;
    rail_->all_gather(stream, along);
    DeviceGather within = g;
    within.mine = row_.get();
    within.all = rows_.get();
    within.outcome = outcome_.get();
    within.num_counts = row_size(g.num_counts);
    domain_->all_gather(stream, within);
    exchange::launch_two_level({.rows = rows_.get(),
                                .outcome = outcome_.get(),
                                .all = g.all,
                                .all_outcome = g.outcome,
                                .control = control_.get(),
                                .num_domains = rail_->num_ranks(),
                                .domain_size = domain_->num_ranks(),
                                .num_counts = static_cast<int>(g.num_counts)},
                               stream);
  }

  DeviceExchangeStats stats(StreamHandle stream) override {
    DeviceExchangeStats stats = exchange::read_stats(control_.get(), host_control_.get(), stream);
    stats.last_missing = exchange::missing_of_levels(
        rail_->rank(), domain_->rank(), domain_->num_ranks(), domain_->stats(stream).last_missing,
        rail_->stats(stream).last_missing);
    return stats;
  }

 private:
  std::size_t num_domains() const { return static_cast<std::size_t>(rail_->num_ranks()); }
  std::size_t row_size(std::size_t num_counts) const { return num_domains() * num_counts + 1; }

  const std::shared_ptr<DeviceExchange> rail_;
  const std::shared_ptr<DeviceExchange> domain_;
  device::Array<std::int32_t> row_;      // [num_domains, num_counts], and the rail's outcome
  device::Array<std::int32_t> rows_;     // the rows of the domain's ranks
  device::Array<std::int32_t> outcome_;  // outcome of the domain's round
  device::Array<exchange::ExchangeControl> control_;
  device::HostArray<exchange::ExchangeControl> host_control_;
};

}  // namespace

std::shared_ptr<DeviceExchange> make_two_level_exchange(std::shared_ptr<DeviceExchange> rail,
                                                        std::shared_ptr<DeviceExchange> domain) {
  check_argument(rail != nullptr, "rail", "is null");
  check_argument(domain != nullptr, "domain", "is null");
  const auto least = static_cast<std::size_t>(rail->num_ranks()) + 1;
  check_argument(domain->max_counts() >= least, "domain",
                 "has room for {} counts, expected at least {}: one of each domain, and one more",
                 domain->max_counts(), least);
  const Index num_ranks = rail->num_ranks() * domain->num_ranks();
  check_argument(num_ranks <= kMaxRanks, "domain", "makes {} ranks, expected at most {}", num_ranks,
                 kMaxRanks);
  return std::make_shared<TwoLevelExchange>(std::move(rail), std::move(domain));
}

}  // namespace lplb
