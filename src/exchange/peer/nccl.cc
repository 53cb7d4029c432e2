// SPDX-License-Identifier: MIT

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/check.h"
#include "core/device.h"
#include "core/format.h"
#include "exchange/libraries/nccl_library.h"
#include "exchange/peer/memory.h"
#include "lplb/error.h"

// The transport of a window of an NCCL communicator. Only plain pointers are taken from the window,
// so no kernel depends on the version of NCCL's device code.
namespace lplb {
namespace {

class NcclMemory : public exchange::PeerMemory {
 public:
  NcclMemory(void* own, std::size_t bytes, const exchange::MakerGroup& group)
      : nccl_(exchange::NcclLibrary::require()), own_(own), comm_(group.nccl_comm) {
    bytes_ = bytes;
    try {
      window_ = nccl_.register_memory(comm_, own_, bytes);
      for (Index g = 0; g < group.num_ranks; ++g) {
        void* there = nullptr;
        nccl_.check(nccl_.peer_pointer(window_, 0, g, &there), "ncclGetPeerDevicePointer");
        if (there == nullptr) {
          throw ExchangeError(formatted("rank {} is outside of the NVLink domain", g));
        }
        buffers_.push_back(there);
      }
    } catch (...) {
      release();
      throw;
    }
  }
  ~NcclMemory() override { release(); }
  NcclMemory(const NcclMemory&) = delete;
  NcclMemory& operator=(const NcclMemory&) = delete;

 private:
  void release() noexcept {
    if (window_ != nullptr) (void)nccl_.window_deregister(comm_, window_);
    (void)nccl_.mem_free(own_);
  }

  const exchange::NcclLibrary& nccl_;
  void* own_;
  exchange::NcclLibrary::Comm comm_;
  exchange::NcclLibrary::Window window_ = nullptr;
};

class NcclMaker : public exchange::Maker {
 public:
  explicit NcclMaker(const exchange::MakerGroup& group) : group_(group) {}
  ~NcclMaker() override {
    if (own_ != nullptr) (void)exchange::NcclLibrary::get().mem_free(own_);
  }
  NcclMaker(const NcclMaker&) = delete;
  NcclMaker& operator=(const NcclMaker&) = delete;

  std::vector<std::byte> offer(std::size_t bytes) override {
    bytes_ = bytes;
    own_ = exchange::NcclLibrary::require().allocate(&bytes_);
    return {};
  }
  std::unique_ptr<exchange::PeerMemory> accept(
      const std::vector<std::vector<std::byte>>&) override {
    return std::make_unique<NcclMemory>(std::exchange(own_, nullptr), bytes_, group_);
  }

 private:
  exchange::MakerGroup group_;
  void* own_ = nullptr;
  std::size_t bytes_ = 0;
};

/// An exchange by one ncclAllGather() of the counts on the caller's stream.
class NcclExchange : public DeviceExchange {
 public:
  NcclExchange(void* comm, std::size_t max_counts)
      : nccl_(exchange::NcclLibrary::require()), comm_(comm), max_counts_(max_counts) {
    int num_ranks = 0;
    int rank = 0;
    nccl_.check(nccl_.comm_count(comm_, &num_ranks), "ncclCommCount");
    nccl_.check(nccl_.comm_user_rank(comm_, &rank), "ncclCommUserRank");
    num_ranks_ = num_ranks;
    rank_ = rank;
  }
  Index num_ranks() const override { return num_ranks_; }
  Index rank() const override { return rank_; }
  std::size_t max_counts() const override { return max_counts_; }

  void all_gather(StreamHandle stream, const DeviceGather& g) override {
    exchange::check_gather(*this, g);
    auto* const cuda_stream = static_cast<cudaStream_t>(stream);
    nccl_.check(nccl_.all_gather(g.mine, g.all, g.num_counts, exchange::NcclLibrary::kInt32, comm_,
                                 cuda_stream),
                "ncclAllGather");
    if (g.outcome != nullptr) {
      LPLB_CUDA_CHECK(cudaMemsetAsync(g.outcome, 0, sizeof(*g.outcome), cuda_stream));
    }
    ++rounds_;
  }
  DeviceExchangeStats stats(StreamHandle stream) override {
    LPLB_CUDA_CHECK(cudaStreamSynchronize(static_cast<cudaStream_t>(stream)));
    DeviceExchangeStats stats;
    stats.rounds = rounds_;
    return stats;
  }

 private:
  const exchange::NcclLibrary& nccl_;
  exchange::NcclLibrary::Comm comm_;
  std::size_t max_counts_;
  Index num_ranks_ = 0;
  Index rank_ = 0;
  std::int64_t rounds_ = 0;
};

}  // namespace

std::string exchange::find_missing_for_nccl(const exchange::MakerGroup& group) {
  if (group.nccl_comm == nullptr) return "no communicator is given";
  const exchange::NcclLibrary& nccl = exchange::NcclLibrary::get();
  if (!nccl.missing.empty()) return nccl.missing;
  if (nccl.mem_alloc == nullptr || nccl.window_register == nullptr ||
      nccl.peer_pointer == nullptr) {
    return formatted("NCCL {} has no ncclGetPeerDevicePointer(), which 2.29 has",
                     nccl.version_text());
  }
  return nccl.find_other_rank(group.nccl_comm, group.rank, group.num_ranks);
}

std::unique_ptr<exchange::Maker> exchange::make_nccl(const exchange::MakerGroup& group) {
  return std::make_unique<NcclMaker>(group);
}

std::shared_ptr<DeviceExchange> make_nccl_exchange(void* nccl_comm, std::size_t max_counts) {
  check_argument(nccl_comm != nullptr, "nccl_comm", "is null");
  check_argument(max_counts >= 1, "max_counts", "{} is not >= 1", max_counts);
  return std::make_shared<NcclExchange>(nccl_comm, max_counts);
}

/// NOTE: this takes two collective calls, the first of which gathers the sizes, because ranks may
/// send different numbers of bytes.
AllGatherBytes gather_bytes_by_nccl(void* nccl_comm) {
  check_argument(nccl_comm != nullptr, "nccl_comm", "is null");
  const exchange::NcclLibrary& nccl = exchange::NcclLibrary::require();
  int num_ranks = 0;
  nccl.check(nccl.comm_count(nccl_comm, &num_ranks), "ncclCommCount");
  const auto count = static_cast<std::size_t>(num_ranks);
  const auto gather = [nccl_comm, count, &nccl](const std::vector<std::byte>& mine) {
    device::Stream stream;
    device::Array<std::byte> own(mine.size()), all(mine.size() * count);
    std::vector<std::byte> result(mine.size() * count);
    LPLB_CUDA_CHECK(cudaMemcpy(own.get(), mine.data(), mine.size(), cudaMemcpyHostToDevice));
    LPLB_CUDA_CHECK(cudaDeviceSynchronize());
    nccl.check(nccl.all_gather(own.get(), all.get(), mine.size(), exchange::NcclLibrary::kInt8,
                               nccl_comm, stream.get()),
               "ncclAllGather");
    LPLB_CUDA_CHECK(cudaStreamSynchronize(stream.get()));
    LPLB_CUDA_CHECK(cudaMemcpy(result.data(), all.get(), result.size(), cudaMemcpyDeviceToHost));
    return result;
  };
  return [gather, count](std::span<const std::byte> mine) {
    const std::uint64_t size = mine.size();
    std::vector<std::byte> packed(sizeof(size));
    std::memcpy(packed.data(), &size, sizeof(size));
    const std::vector<std::byte> packed_sizes = gather(packed);
    std::vector<std::uint64_t> sizes(count);
    std::memcpy(sizes.data(), packed_sizes.data(), packed_sizes.size());
    const std::uint64_t most = std::max<std::uint64_t>(1, *std::ranges::max_element(sizes));
    std::vector<std::byte> padded(mine.begin(), mine.end());
    padded.resize(most);
    const std::vector<std::byte> all = gather(padded);
    std::vector<std::vector<std::byte>> result;
    for (std::size_t g = 0; g < count; ++g) {
      const auto first = all.begin() + static_cast<std::ptrdiff_t>(g * most);
      result.emplace_back(first, first + static_cast<std::ptrdiff_t>(sizes[g]));
    }
    return result;
  };
}

}  // namespace lplb
