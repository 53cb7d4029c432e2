// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include "exchange/scenario_test_support.h"
#include "lplb/rail_exchange.h"

// Tests of exchanges of two levels whose rail is a network. Each rank is a process, on two devices.
namespace lplb {
namespace {

using testing::check_rounds;
using testing::expect_well;
using testing::gather_of;
using testing::ProcessGroup;
using testing::VirtualRank;

constexpr std::size_t kCounts = 128;

/// Runs rounds of two domains. The ranks of a domain are on one device.
void run_rail(ProcessGroup& group, bool by_gin, int rounds) {
  const int domain_size = group.num_ranks() / 2;
  const int domain = group.rank() / domain_size;
  const int rank_in_domain = group.rank() % domain_size;
  LPLB_CUDA_CHECK(cudaSetDevice(domain));
  std::unique_ptr<testing::NcclComm> comm;
  if (by_gin) comm = std::make_unique<testing::NcclComm>(group);
  const AllGatherBytes gather = gather_of(group);
  const AllGatherBytes gather_in_domain = [&](std::span<const std::byte> mine) {
    auto all = gather(mine);
    return std::vector<std::vector<std::byte>>(all.begin() + domain * domain_size,
                                               all.begin() + (domain + 1) * domain_size);
  };
  std::unique_ptr<PeerGroup> peers;
  if (domain_size > 1) {
    peers = std::make_unique<PeerGroup>(PeerGroup::connect(
        rank_in_domain, domain_size, gather_in_domain, {.max_counts = 2 * kCounts + 1}));
  }
  const RailOptions options{.domain = domain, .num_domains = 2, .max_counts = kCounts};
  auto domain_exchange = peers != nullptr ? peers->channel(0) : nullptr;
  auto exchange = by_gin ? make_gin_exchange(options, domain_exchange, gather, comm->get())
                         : make_nvshmem_exchange(options, domain_exchange, gather);
  testing::require(exchange->rank() == group.rank(), "rank");
  testing::require(exchange->num_ranks() == group.num_ranks(), "num_ranks");
  if (group.rank() == 0) std::printf("%zu bytes of symmetric memory\n", rail_buffer_bytes(options));
  {
    VirtualRank rank(exchange);
    for (int round = 0; round < rounds; ++round) {
      rank.enqueue(round % 5 == 0 ? 24 : kCounts, round % 3 == 0 ? 0 : 5000);
    }
    check_rounds(rank, rounds);
  }
  group.barrier();
  exchange.reset();
  if (peers != nullptr) peers->disconnect();
  group.barrier();
}

void run_scenario(const std::string& name, ProcessGroup& group) {
  // NOTE: processes that share a device take turns of milliseconds, so they run fewer rounds.
  run_rail(group, name == "gin", group.num_ranks() == 2 ? 10000 : 100);
}

class RailMultiCuda : public testing::TwoDevices {};

TEST_P(RailMultiCuda, TwoDomainsOfOneRank) { expect_well(GetParam(), 2); }

// NOTE: NCCL is left out, because it needs a device for each rank.
class RailDomainsMultiCuda : public testing::TwoDevices {};
TEST_P(RailDomainsMultiCuda, TwoDomainsOfTwoRanks) { expect_well(GetParam(), 4); }

INSTANTIATE_TEST_SUITE_P(Networks, RailMultiCuda, ::testing::Values("nvshmem", "gin"),
                         testing::scenario_name);
INSTANTIATE_TEST_SUITE_P(Networks, RailDomainsMultiCuda, ::testing::Values("nvshmem"),
                         testing::scenario_name);

}  // namespace
}  // namespace lplb

int main(int argc, char** argv) { return lplb::testing::run_main(argc, argv, lplb::run_scenario); }
