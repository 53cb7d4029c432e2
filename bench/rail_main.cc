// SPDX-License-Identifier: MIT
#include <memory>
#include <string>

#include "bench/multi_bench.h"
#include "exchange/libraries/nccl_test_comm.h"
#include "lplb/rail_exchange.h"

// lplb_rail_bench [NUM_GPUS]: measures the exchange of two levels. Each GPU is a domain of its own.
// The rail is NVSHMEM's puts from the kernel, then NCCL's all-gather between kernels.
namespace lplb::bench {
namespace {

class Bench : public MultiBench {
 public:
  using MultiBench::MultiBench;

  void run() {
    say_head();
    for (const std::size_t counts : {24, 128, 256}) {
      const RailOptions options{.domain = rank_, .num_domains = num_ranks_, .max_counts = counts};
      const auto exchange = make_nvshmem_exchange(options, nullptr, gather());
      time_exchange("two levels, puts", *exchange, counts, "NVSHMEM");
    }
    if (!exchange::NcclLibrary::get().missing.empty()) return;
    const testing::NcclComm comm(group_);
    const auto most = static_cast<std::size_t>(num_ranks_) * kCounts + 1;
    const int device = group_.rank();
    auto domain = PeerGroup::in_process(std::span(&device, 1), {.max_counts = most});
    const auto exchange =
        make_two_level_exchange(make_nccl_exchange(comm.get(), kCounts), domain.front().channel(0));
    time_exchange("two levels, all-gather", *exchange, kCounts,
                  "NCCL " + exchange::NcclLibrary::get().version_text());
  }

 private:
  static constexpr std::size_t kCounts = 128;
};

}  // namespace
}  // namespace lplb::bench

int main(int argc, char** argv) {
  return lplb::bench::run_multi_bench<lplb::bench::Bench>(argc, argv);
}
