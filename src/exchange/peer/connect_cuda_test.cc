// SPDX-License-Identifier: MIT
#include <dlfcn.h>
#include <gmock/gmock.h>

#include <csignal>
#include <cstdio>
#include <functional>
#include <map>
#include <string>

#include "exchange/scenario_test_support.h"

// The ranks are processes, two on one device or one on each device.
namespace lplb {
namespace {

using namespace std::chrono_literals;
using testing::check_rounds;
using testing::expect_well;
using testing::gather_of;
using testing::NcclComm;
using testing::ProcessGroup;
using testing::require;
using testing::Trouble;
using testing::VirtualRank;

constexpr std::size_t kCounts = 128;

/// Runs rounds over a transport, all ranks on one device or each on its own.
void run_rounds(ProcessGroup& group, const std::string& transport, int rounds) {
  std::unique_ptr<NcclComm> comm;
  if (transport == "nccl") comm = std::make_unique<NcclComm>(group);
  const ConnectOptions how{transport, comm != nullptr ? comm->get() : nullptr};
  PeerGroup peers =
      PeerGroup::connect(static_cast<Index>(group.rank()), static_cast<Index>(group.num_ranks()),
                         gather_of(group), {.max_counts = kCounts}, how);
  VirtualRank rank(peers.channel(0));
  if (group.rank() == 0) {
    std::printf("%s: %s, %zu bytes\n", transport.c_str(), transport_name(peers.transport()),
                peers.bytes());
  }
  for (int round = 0; round < rounds; ++round) {
    rank.enqueue(round % 5 == 0 ? 24 : kCounts, round % 3 == 0 ? 0 : 5000);
  }
  check_rounds(rank, rounds);
  group.barrier();
  peers.disconnect();
  group.barrier();  // nobody frees memory before all have disconnected
}

/// One rank is killed. The others time out and end by themselves.
void run_killed(ProcessGroup& group) {
  PeerGroup peers =
      PeerGroup::connect(static_cast<Index>(group.rank()), static_cast<Index>(group.num_ranks()),
                         gather_of(group), {.max_counts = kCounts, .deadline = 20ms});
  VirtualRank rank(peers.channel(0));
  const bool is_last = group.rank() == group.num_ranks() - 1;
  for (int round = 0; round < 500; ++round) rank.enqueue(kCounts);
  check_rounds(rank, 500);
  group.barrier();
  if (is_last) {
    (void)std::raise(SIGKILL);
  }
  for (int round = 0; round < 10; ++round) rank.enqueue(kCounts);
  rank.wait();
  const DeviceExchangeStats stats = rank.stats();
  require(stats.rounds == 510 && stats.complete() == 500,
          "complete: " + std::to_string(stats.complete()));
  require(stats.timed_out > 0, "nothing timed out");
  require(rank.log().wrong == 0, "wrong counts");
}

/// If ranks do not agree, all of them are refused, and can go on.
void run_refused(ProcessGroup& group) {
  const auto refused = [&](const PeerGroupOptions& options, const ConnectOptions& how,
                           const std::string& part) {
    try {
      (void)PeerGroup::connect(static_cast<Index>(group.rank()),
                               static_cast<Index>(group.num_ranks()), gather_of(group), options,
                               how);
    } catch (const ExchangeError& error) {
      require(std::string(error.what()).find(part) != std::string::npos, error.what());
      return;
    }
    throw Trouble("accepted: expected " + part);
  };
  const std::size_t counts = group.rank() == 1 ? 25 : 24;
  refused({.max_counts = counts}, {}, "rank 1 connects 2 ranks, max_counts 25");
  refused({.max_counts = 24}, {.transport = group.rank() == 1 ? "ipc" : "auto"}, "transport ipc");
  refused({.max_counts = 24}, {.transport = "nccl"}, "nccl: rank 0: no communicator is given");
  group.barrier();
}

/// Runs rounds by ncclAllGather() between kernels.
void run_host_gather(ProcessGroup& group, int rounds) {
  const NcclComm comm(group);
  require(gather_bytes_by_nccl(comm.get())(std::as_bytes(std::span("abcd", 3 + group.rank())))
                  .back()
                  .size() == static_cast<std::size_t>(2 + group.num_ranks()),
          "gather_bytes_by_nccl");
  VirtualRank rank(make_nccl_exchange(comm.get(), kCounts));
  for (int round = 0; round < rounds; ++round) rank.enqueue(kCounts, 5000);
  check_rounds(rank, rounds);
  group.barrier();
}

/// Each process is a domain of its own; NCCL is the rail between them.
void run_two_level(ProcessGroup& group, int rounds) {
  const NcclComm comm(group);
  const int device = group.rank();
  std::vector<PeerGroup> domain =
      PeerGroup::in_process(std::span(&device, 1), {.max_counts = 2 * kCounts + 1});
  VirtualRank rank(
      make_two_level_exchange(make_nccl_exchange(comm.get(), kCounts), domain[0].channel(0)));
  for (int round = 0; round < rounds; ++round) rank.enqueue(kCounts, 5000);
  check_rounds(rank, rounds);
  group.barrier();
}

void run_scenario(const std::string& name, ProcessGroup& group) {
  const bool one_device = name.starts_with("one-");
  LPLB_CUDA_CHECK(cudaSetDevice(one_device ? 0 : group.rank()));
  const std::string scenario = one_device ? name.substr(4) : name;
  // NOTE: processes that share a device take turns of milliseconds, so they run fewer rounds.
  if (scenario == "killed") {
    run_killed(group);
  } else if (scenario == "refused") {
    run_refused(group);
  } else if (scenario == "host") {
    run_host_gather(group, 2000);
  } else if (scenario == "two_level") {
    run_two_level(group, 2000);
  } else {
    run_rounds(group, scenario, one_device ? 100 : 10000);
  }
}

class ConnectCuda : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!cuda_support().missing.empty()) GTEST_SKIP() << "no GPU: " << cuda_support().missing;
  }
};

class ConnectMultiCuda : public testing::TwoDevices {};

TEST_F(ConnectCuda, TwoProcessesOfOneDeviceByIpc) { expect_well("one-ipc", 2); }

TEST_F(ConnectCuda, RanksThatDisagreeAreAllRefused) { expect_well("one-refused", 2); }

TEST_P(ConnectMultiCuda, RoundsAreWhole) { expect_well(GetParam(), 2); }

INSTANTIATE_TEST_SUITE_P(Transports, ConnectMultiCuda,
                         ::testing::Values("auto", "ipc", "fabric", "nccl", "nvshmem", "host",
                                           "two_level"),
                         testing::scenario_name);

using ConnectKilledMultiCuda = ConnectMultiCuda;
INSTANTIATE_TEST_SUITE_P(All, ConnectKilledMultiCuda, ::testing::Values("killed"),
                         testing::scenario_name);

TEST_P(ConnectKilledMultiCuda, TheOthersEndWithinTheDeadline) {
  testing::expect_one_killed(GetParam());
}

}  // namespace
}  // namespace lplb

int main(int argc, char** argv) { return lplb::testing::run_main(argc, argv, lplb::run_scenario); }
