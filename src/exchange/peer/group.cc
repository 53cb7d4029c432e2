// SPDX-License-Identifier: MIT
#include <algorithm>

#include "core/check.h"
#include "core/device.h"
#include "exchange/peer/memory.h"

namespace lplb {
namespace {

class PeerChannel : public DeviceExchange {
 public:
  PeerChannel(std::shared_ptr<PeerGroup::State> group, const exchange::PeerArgs& args,
              std::size_t max_counts)
      : group_(std::move(group)), args_(args), max_counts_(max_counts), control_(1) {}

  Index num_ranks() const override { return args_.layout.num_ranks; }
  Index rank() const override { return args_.rank; }
  std::size_t max_counts() const override { return max_counts_; }
  const exchange::PeerArgs& args() const { return args_; }

  void all_gather(StreamHandle stream, const DeviceGather& g) override {
    exchange::check_gather(*this, g);
    exchange::launch_gather(args_, g, stream);
  }

  DeviceExchangeStats stats(StreamHandle stream) override {
    const auto* const control =
        reinterpret_cast<const exchange::ExchangeControl*>(args_.own + args_.channel);
    return exchange::read_stats(control, control_.get(), stream);
  }

 private:
  const std::shared_ptr<PeerGroup::State> group_;  // keeps the memory alive
  const exchange::PeerArgs args_;
  const std::size_t max_counts_;
  device::HostArray<exchange::ExchangeControl> control_;
};

/// Memory that belongs to the caller.
class GivenMemory : public exchange::PeerMemory {
 public:
  GivenMemory(std::span<void* const> buffers, std::size_t bytes) {
    buffers_.assign(buffers.begin(), buffers.end());
    bytes_ = bytes;
  }
};

}  // namespace

struct PeerGroup::State {
  Index rank;
  Transport transport;
  PeerGroupOptions options;
  exchange::ExchangeLayout layout;
  std::unique_ptr<exchange::PeerMemory> memory;
  std::vector<char> handed_out;
};

DeviceExchangeStats exchange::read_stats(const exchange::ExchangeControl* control,
                                         exchange::ExchangeControl* pinned, StreamHandle stream) {
  auto* const cuda_stream = static_cast<cudaStream_t>(stream);
  LPLB_CUDA_CHECK(cudaMemcpyAsync(pinned, control, sizeof(exchange::ExchangeControl),
                                  cudaMemcpyDeviceToHost, cuda_stream));
  LPLB_CUDA_CHECK(cudaStreamSynchronize(cuda_stream));
  DeviceExchangeStats stats;
  stats.rounds = static_cast<std::int64_t>(pinned->rounds);
  stats.timed_out = static_cast<std::int64_t>(pinned->timed_out);
  stats.behind = static_cast<std::int64_t>(pinned->behind);
  stats.mismatched = static_cast<std::int64_t>(pinned->mismatched);
  stats.last_missing = stats.complete() == stats.rounds ? -1 : pinned->missing;
  return stats;
}

unsigned long long exchange::deadline_ns(std::chrono::microseconds deadline) {
  // NOTE: a longer deadline than 30 days could overflow in nanoseconds, or would seem endless.
  const auto most = std::min<std::chrono::microseconds>(deadline, std::chrono::hours(24 * 30));
  return static_cast<unsigned long long>(std::chrono::nanoseconds(most).count());
}

void exchange::check_gather(const DeviceExchange& exchange, const DeviceGather& g) {
  const std::size_t most = exchange.max_counts();
  check_argument(g.num_counts >= 1 && g.num_counts <= most, "num_counts",
                 "{} is not between 1 and max_counts ({})", g.num_counts, most);
  check_argument(g.mine != nullptr, "mine", "is null, expected {} counts", g.num_counts);
  check_argument(g.all != nullptr, "all", "is null, expected room for {} counts",
                 g.num_counts * static_cast<std::size_t>(exchange.num_ranks()));
}

void exchange::prepare_buffer(Index rank, const exchange::PeerMemory& memory) {
  const std::vector<void*>& buffers = memory.buffers();
  std::vector<unsigned long long> table;
  table.reserve(buffers.size());
  for (const void* buffer : buffers) table.push_back(reinterpret_cast<std::uintptr_t>(buffer));
  exchange::prepare_gather();
  device::Stream stream;
  LPLB_CUDA_CHECK(cudaMemcpyAsync(buffers[rank], table.data(), table.size() * sizeof(table[0]),
                                  cudaMemcpyHostToDevice, stream.get()));
  LPLB_CUDA_CHECK(cudaStreamSynchronize(stream.get()));
}

std::unique_ptr<exchange::PeerMemory> exchange::use_given(Index rank,
                                                          std::span<void* const> buffers,
                                                          std::size_t bytes) {
  check_argument(rank >= 0 && static_cast<std::size_t>(rank) < buffers.size(), "rank",
                 "{} is not between 0 and {}", rank, buffers.size() - 1);
  for (std::size_t g = 0; g < buffers.size(); ++g) {
    const auto address = reinterpret_cast<std::uintptr_t>(buffers[g]);
    check_argument(address != 0 && address % ExchangeLayout::kAlign == 0, "buffers",
                   "that of rank {} is at {:#x}, expected a multiple of {}", g, address,
                   ExchangeLayout::kAlign);
  }
  device::require();
  return std::make_unique<GivenMemory>(buffers, bytes);
}

PeerGroup exchange::make_peer_group(Index rank, Transport transport,
                                    std::unique_ptr<exchange::PeerMemory> memory,
                                    const PeerGroupOptions& options) {
  const exchange::ExchangeLayout layout =
      exchange::layout_of(static_cast<Index>(memory->buffers().size()), options);
  return PeerGroup(std::make_shared<PeerGroup::State>(
      PeerGroup::State{rank, transport, options, layout, std::move(memory),
                       std::vector<char>(static_cast<std::size_t>(options.num_channels), 0)}));
}

const exchange::PeerArgs* exchange::peer_args(const DeviceExchange& exchange) {
  const auto* const channel = dynamic_cast<const PeerChannel*>(&exchange);
  return channel != nullptr ? &channel->args() : nullptr;
}

PeerGroup::PeerGroup(std::shared_ptr<State> state) : state_(std::move(state)) {}
PeerGroup::PeerGroup(PeerGroup&&) noexcept = default;
PeerGroup& PeerGroup::operator=(PeerGroup&&) noexcept = default;
PeerGroup::~PeerGroup() = default;

PeerGroup PeerGroup::from_pointers(Index rank, std::span<void* const> buffers,
                                   const PeerGroupOptions& options) {
  exchange::check_group(static_cast<Index>(std::min<std::size_t>(buffers.size(), kMaxRanks + 1)),
                        rank, options);
  const std::size_t bytes = peer_buffer_bytes(static_cast<Index>(buffers.size()), options);
  std::unique_ptr<exchange::PeerMemory> memory = exchange::use_given(rank, buffers, bytes);
  exchange::prepare_buffer(rank, *memory);
  return exchange::make_peer_group(rank, Transport::kGiven, std::move(memory), options);
}

Index PeerGroup::num_ranks() const { return state_->layout.num_ranks; }
Index PeerGroup::rank() const { return state_->rank; }
Transport PeerGroup::transport() const { return state_->transport; }
std::size_t PeerGroup::bytes() const { return state_->memory->bytes(); }
Index PeerGroup::num_channels() const { return state_->options.num_channels; }

void PeerGroup::disconnect() { state_->memory->disconnect(); }

std::shared_ptr<DeviceExchange> PeerGroup::channel(Index index) {
  State& s = *state_;
  check_argument(index >= 0 && index < num_channels(), "index", "{} is not between 0 and {}", index,
                 num_channels() - 1);
  check_argument(s.handed_out[index] == 0, "index", "channel {} has been handed out already",
                 index);
  auto* const own = static_cast<unsigned char*>(s.memory->buffers()[s.rank]);
  const exchange::PeerArgs args{own,
                                reinterpret_cast<const unsigned long long*>(own),
                                s.layout.channel(index),
                                exchange::deadline_ns(s.options.deadline),
                                s.layout,
                                s.rank};
  auto channel = std::make_shared<PeerChannel>(state_, args, s.options.max_counts);
  s.handed_out[index] = 1;
  return channel;
}

}  // namespace lplb
