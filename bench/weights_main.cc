// SPDX-License-Identifier: MIT
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>

#include "bench/matrix_product.h"
#include "bench/multi_bench.h"
#include "exchange/libraries/nccl_test_comm.h"
#include "lplb/device_weights.h"

// lplb_weights_bench [NUM_GPUS]: how fast weights of copies travel, and gradients back.
// With one GPU, which is the default, ranks are streams of it; otherwise a process for each GPU. An
// expert has 44 MB, as DeepSeek-V3's in FP8: [4096, 7168] and [7168, 2048] bytes. Gradients are
// bfloat16 of the same numbers of elements.
namespace lplb::bench {
namespace {

using testing::DeviceVector;
using testing::ProcessGroup;

constexpr std::size_t kWide = std::size_t{4096} * 7168;
constexpr std::size_t kNarrow = std::size_t{7168} * 2048;
constexpr std::size_t kExpert = kWide + kNarrow;
constexpr int kRepeats = 4;  // even, because two plans take turns
constexpr int kReplays = 25;
constexpr int kWarmUp = 5;

struct Case {
  Index slots = 1;
  Index num_sms = 16;
  Index num_buffers = 4;
  bool one_way = false;  ///< only rank 0 has copies
};

/// The ranks of this process: all, or one. Each copies experts of the next rank.
class Ranks {
 public:
  Ranks(std::vector<std::unique_ptr<DeviceWeightExchange>> members, Index num_ranks, const Case& c)
      : members_(std::move(members)), streams_(members_.size()), events_(members_.size()) {
    for (int turn = 0; turn < 2; ++turn) {
      std::vector<std::int32_t> expert, source;
      for (Index g = 0; g < num_ranks; ++g) {
        const Index from = (g + 1) % num_ranks;
        for (Index s = 0; s < c.slots; ++s) {
          const bool is_used = !c.one_way || g == 0;
          expert.push_back(is_used ? from * 2 * c.slots + turn * c.slots + s : -1);
          source.push_back(is_used ? from : -1);
        }
      }
      expert_[turn].set(expert);
      source_[turn].set(source);
    }
    for (std::size_t i = 0; i < members_.size(); ++i) {
      auto& gradients = gradients_.emplace_back();
      for (const std::size_t size : {kWide, kNarrow}) {
        gradients.emplace_back(2 * size * static_cast<std::size_t>(2 * c.slots));
        LPLB_CUDA_CHECK(cudaMemset(gradients.back().get(), 0, gradients.back().capacity()));
      }
    }
    LPLB_CUDA_CHECK(cudaDeviceSynchronize());
  }

  /// Calls call(member) for each member on a stream of its own, between what `stream` has before
  /// and after.
  template <class Call>
  void on_each(cudaStream_t stream, Call call) {
    start_.record(stream);
    for (std::size_t i = 0; i < members_.size(); ++i) {
      start_.hold(streams_[i].get());
      call(i, streams_[i].get());
      events_[i].record(streams_[i].get());
      events_[i].hold(stream);
    }
  }
  void fetch(cudaStream_t stream) {
    turn_ = 1 - turn_;
    on_each(stream, [&](std::size_t i, cudaStream_t own) {
      members_[i]->fetch(
          own, 0, {.slot_expert = expert_[turn_].data(), .slot_source = source_[turn_].data()});
    });
  }
  void reduce(cudaStream_t stream) {
    on_each(stream, [&](std::size_t i, cudaStream_t own) {
      const std::vector<void*> to = {gradients_[i][0].get(), gradients_[i][1].get()};
      members_[i]->reduce_gradients(own, 0, to);
    });
  }
  void expect_complete(cudaStream_t stream) {
    for (auto& member : members_) {
      const DeviceWeightStats stats = member->stats(stream);
      if (stats.complete() != stats.calls || stats.skipped != 0) {
        throw std::runtime_error("a call was not complete, or did not copy");
      }
    }
  }
  void disconnect() {
    for (auto& member : members_) member->disconnect();
  }

 private:
  std::vector<std::unique_ptr<DeviceWeightExchange>> members_;
  std::vector<device::Stream> streams_;
  std::vector<device::Event> events_;
  device::Event start_;
  DeviceVector<std::int32_t> expert_[2], source_[2];
  std::vector<std::vector<device::Array<unsigned char>>> gradients_;  // [members][tensors]
  int turn_ = 0;
};

/// Ranks of `experts` experts each, in order.
Placement homes(Index num_ranks, Index experts) {
  std::vector<Index> map(static_cast<std::size_t>(num_ranks * experts));
  for (std::size_t i = 0; i < map.size(); ++i) map[i] = static_cast<Index>(i);
  return make_placement(num_ranks, num_ranks * experts, map);
}

DeviceWeightLayout layout() {
  return {.tensor_bytes = {kWide, kNarrow},
          .gradient_sizes = {kWide, kNarrow},
          .gradient_type = GradientType::kBFloat16};
}

DeviceWeightOptions options_of(const Case& c) {
  return {.dynamic_slots = c.slots,
          .num_sms = c.num_sms,
          .num_buffers = c.num_buffers,
          .deadline = std::chrono::seconds(2)};
}

/// Prints the tables of a group, whose ranks a function makes.
class Tables {
 public:
  using Make = std::function<std::unique_ptr<Ranks>(const Case&)>;
  /// Starts an ordinary copy of `bytes` bytes, to compare with.
  using Copy = std::function<void(std::size_t bytes, cudaStream_t stream)>;

  Tables(Index copies, bool is_quiet, std::function<void()> barrier, Make make, Copy copy)
      : copies_(copies),
        is_quiet_(is_quiet),
        barrier_(std::move(barrier)),
        make_(std::move(make)),
        copy_(std::move(copy)) {}

  void run(const std::vector<Index>& sms) {
    say("%-44s %9s %9s %9s\n", "what", "us", "GB/s", "of copy");
    for (const Index slots : {1, 4}) {
      const std::size_t bytes = bytes_of({.slots = slots});
      const double us = time([&](cudaStream_t stream) { copy_(bytes, stream); });
      copy_gb_s_ = gb_s(bytes, us);
      say("%-44s %9.1f %9.1f\n",
          text("copy of ", bytes / 1000000, " MB by the copy engine").c_str(), us, copy_gb_s_);
      for (const Index n : sms) fetch({.slots = slots, .num_sms = n});
    }
    for (const Index buffers : {2, 6}) {
      fetch({.num_sms = sms[sms.size() / 2], .num_buffers = buffers});
    }
    fetch({.num_sms = sms.back(), .one_way = true});
    for (const Index n : sms) reduce({.num_sms = n});
    beside_product({.num_sms = sms[sms.size() / 2]});
    beside_product({.num_sms = sms[sms.size() / 2], .num_buffers = 2});
  }

 private:
  std::size_t bytes_of(const Case& c) const {
    return kExpert * static_cast<std::size_t>(c.slots) *
           static_cast<std::size_t>(c.one_way ? 1 : copies_);
  }
  static double gb_s(std::size_t bytes, double us) {
    return static_cast<double>(bytes) / us / 1000;
  }
  template <class... Args>
  static std::string text(const Args&... args) {
    std::string all;
    const auto add = [&all](const auto& arg) {
      if constexpr (std::is_arithmetic_v<std::decay_t<decltype(arg)>>) {
        all += std::to_string(arg);
      } else {
        all += arg;
      }
    };
    (add(args), ...);
    return all;
  }
  template <class... Args>
  void say(const char* format, Args... args) const {
    if (is_quiet_) return;
    std::printf(format, args...);
    std::fflush(stdout);
  }

  double time(const std::function<void(cudaStream_t)>& launch) {
    barrier_();
    // NOTE: the number of replays is fixed, because all ranks must make the same calls.
    return summarize(timer_.times_us([&] { launch(timer_.stream()); }, kRepeats, kReplays, kWarmUp))
        .median_us;
  }
  void report(const std::string& what, double us, std::size_t bytes, double traffic) {
    say("%-44s %9.1f %9.1f %8.0f%%\n", what.c_str(), us, gb_s(bytes, us),
        100 * gb_s(bytes, us) * traffic / copy_gb_s_);
  }
  static std::string name(const char* what, const Case& c) {
    return text(what, ", ", c.slots, c.slots == 1 ? " expert, " : " experts, ", c.num_sms, " SMs, ",
                c.num_buffers, " buffers", c.one_way ? ", one way" : "");
  }

  void fetch(const Case& c) {
    const auto ranks = make_(c);
    const double us = time([&](cudaStream_t stream) { ranks->fetch(stream); });
    report(name("fetch", c), us, bytes_of(c), 1);
    close(*ranks);
  }
  void close(Ranks& ranks) {
    ranks.expect_complete(timer_.stream());
    barrier_();
    ranks.disconnect();
    barrier_();
  }

  /// On one GPU a copy reads and writes each byte, where a reduction reads two and writes one. A
  /// link carries each byte once in both.
  void reduce(const Case& c) {
    const auto ranks = make_(c);
    ranks->fetch(timer_.stream());
    const double us = time([&](cudaStream_t stream) { ranks->reduce(stream); });
    report(name("reduce, bfloat16", c), us, 2 * bytes_of(c), copies_ == 1 ? 1 : 1.5);
    close(*ranks);
  }

  /// A fetch on one stream and a product of 8 experts on another.
  void beside_product(const Case& c) {
    if (!MatrixProduct::missing().empty()) {
      say("beside a product: %s\n", MatrixProduct::missing().c_str());
      return;
    }
    const auto ranks = make_(c);
    MatrixProduct product;
    const double alone = time([&](cudaStream_t stream) { product.enqueue(stream); });
    device::Event start, end;
    device::Stream other;
    const double both = time([&](cudaStream_t stream) {
      start.record(stream);
      start.hold(other.get());
      ranks->fetch(other.get());
      end.record(other.get());
      product.enqueue(stream);
      end.hold(stream);
    });
    const double fetch = time([&](cudaStream_t stream) { ranks->fetch(stream); });
    say("%-44s %9.1f us; product alone %.1f, fetch alone %.1f\n",
        name("fetch and product", c).c_str(), both, alone, fetch);
    close(*ranks);
  }

  const Index copies_;  // ranks that this process counts the bytes of
  const bool is_quiet_;
  const std::function<void()> barrier_;
  const Make make_;
  const Copy copy_;
  GraphTimer timer_;
  double copy_gb_s_ = 1;
};

/// All ranks are streams of one GPU.
void run_on_one_gpu() {
  const auto most = static_cast<std::size_t>(4 * 8) * kExpert;
  const device::Array<unsigned char> from(most), to(most);
  LPLB_CUDA_CHECK(cudaMemset(from.get(), 1, most));
  for (const Index num_ranks : {2, 8}) {
    std::printf("%s, %d ranks as streams; bytes are those of all ranks\n",
                cuda_support().devices[0].name.c_str(), num_ranks);
    Tables tables(
        num_ranks, false, [] {},
        [&](const Case& c) {
          const Placement p = homes(num_ranks, 2 * c.slots);
          return std::make_unique<Ranks>(
              DeviceWeightExchange::in_process(
                  std::vector<int>(static_cast<std::size_t>(num_ranks), 0), std::span(&p, 1),
                  layout(), options_of(c)),
              num_ranks, c);
        },
        [&](std::size_t bytes, cudaStream_t stream) {
          LPLB_CUDA_CHECK(
              cudaMemcpyAsync(to.get(), from.get(), bytes, cudaMemcpyDeviceToDevice, stream));
        });
    tables.run(num_ranks == 2 ? std::vector<Index>{8, 16, 32, 64} : std::vector<Index>{4, 8, 16});
  }
}

/// A rank of one GPU, whose process has the others' memory mapped.
class Bench : public MultiBench {
 public:
  using MultiBench::MultiBench;

  void run() {
    const std::size_t most = 4 * kExpert;
    const device::Array<unsigned char> from(most), to(most);
    cudaIpcMemHandle_t handle{};
    LPLB_CUDA_CHECK(cudaIpcGetMemHandle(&handle, from.get()));
    const auto all = group_.all_gather(std::as_bytes(std::span(&handle, 1)));
    std::memcpy(&handle, all[static_cast<std::size_t>((rank_ + 1) % num_ranks_)].data(),
                sizeof(handle));
    void* there = nullptr;
    LPLB_CUDA_CHECK(cudaIpcOpenMemHandle(&there, handle, cudaIpcMemLazyEnablePeerAccess));
    std::unique_ptr<testing::NcclComm> comm;
    if (exchange::NcclLibrary::get().missing.empty()) {
      comm = std::make_unique<testing::NcclComm>(group_);
    }
    for (const char* transport : {"ipc", "fabric", "nccl", "nvshmem"}) {
      const ConnectOptions how{transport, comm != nullptr ? comm->get() : nullptr};
      try {
        const auto tried = make(how, {.num_sms = 1});
        group_.barrier();
        tried->disconnect();
        group_.barrier();
      } catch (const ExchangeError& error) {
        say("%s: %s\n", transport, error.what());
        continue;
      }
      say("%s, %d ranks, a process each, %s; bytes are those of one rank\n",
          cuda_support().devices[0].name.c_str(), num_ranks_, transport);
      Tables tables(
          1, rank_ != 0, [&] { group_.barrier(); }, [&](const Case& c) { return make(how, c); },
          [&](std::size_t bytes, cudaStream_t stream) {
            LPLB_CUDA_CHECK(
                cudaMemcpyAsync(to.get(), there, bytes, cudaMemcpyDeviceToDevice, stream));
          });
      tables.run({4, 8, 16, 24, 32});
    }
    group_.barrier();
    LPLB_CUDA_CHECK(cudaIpcCloseMemHandle(there));
    group_.barrier();
  }

 private:
  std::unique_ptr<Ranks> make(const ConnectOptions& how, const Case& c) const {
    const Placement p = homes(num_ranks_, 2 * c.slots);
    std::vector<std::unique_ptr<DeviceWeightExchange>> one;
    one.push_back(DeviceWeightExchange::connect(rank_, num_ranks_, gather(), std::span(&p, 1),
                                                layout(), options_of(c), how));
    return std::make_unique<Ranks>(std::move(one), num_ranks_, c);
  }
};

}  // namespace
}  // namespace lplb::bench

int main(int argc, char** argv) try {
  // Both must be set before CUDA starts: streams whose kernels wait for each other must run at the
  // same time, and NVSHMEM's memory must have room for several experts.
  setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32", 1);
  setenv("NVSHMEM_SYMMETRIC_SIZE", "8G", 0);
  const bool is_rank = !lplb::testing::ProcessRole::of_this_process().scenario.empty();
  if (is_rank || (argc > 1 && std::stoi(argv[1]) > 1)) {
    return lplb::bench::run_multi_bench<lplb::bench::Bench>(argc, argv);
  }
  if (!lplb::cuda_support().missing.empty()) {
    std::printf("skipped: %s\n", lplb::cuda_support().missing.c_str());
    return 0;
  }
  lplb::bench::run_on_one_gpu();
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
