// SPDX-License-Identifier: MIT

#include "core/format.h"
#include "exchange/libraries/nvshmem_world.h"
#include "exchange/peer/memory.h"

// The transport of NVSHMEM's symmetric memory, to which nvshmem_ptr() gives plain pointers.
namespace lplb::exchange {
namespace {

class NvshmemMemory : public PeerMemory {
 public:
  /// Collective. NOTE: if this constructor throws on any rank, the memory is never freed, because
  /// freeing it is collective too.
  NvshmemMemory(std::size_t bytes, const MakerGroup& group) {
    bytes_ = bytes;
    own_ = nvshmem_allocate(bytes);
    nvshmem().get<void()>("nvshmem_barrier_all")();
    auto* const pointer_at = nvshmem().get<void*(const void*, int)>("nvshmem_ptr");
    for (Index g = 0; g < group.num_ranks; ++g) {
      void* const there = g == group.rank ? own_ : pointer_at(own_, g);
      if (there == nullptr) {
        throw ExchangeError(formatted("nvshmem_ptr: the memory of rank {} is out of reach", g));
      }
      buffers_.push_back(there);
    }
  }
  /// Collective too: every rank destroys its group.
  ~NvshmemMemory() override {
    if (is_settled_) nvshmem_release(own_);
  }
  void settle() override { is_settled_ = true; }
  NvshmemMemory(const NvshmemMemory&) = delete;
  NvshmemMemory& operator=(const NvshmemMemory&) = delete;

 private:
  void* own_ = nullptr;
  bool is_settled_ = false;
};

class NvshmemMaker : public Maker {
 public:
  explicit NvshmemMaker(const MakerGroup& group) : group_(group) {}

  std::vector<std::byte> offer(std::size_t bytes) override {
    bytes_ = bytes;
    return offer_nvshmem(group_.rank);
  }

  std::unique_ptr<PeerMemory> accept(const std::vector<std::vector<std::byte>>& offers) override {
    start_nvshmem(group_.rank, group_.num_ranks, offers);
    const NvshmemPe pe = nvshmem_pe();
    if (pe.count != group_.num_ranks || pe.index != group_.rank) {
      throw ExchangeError(formatted("NVSHMEM runs as PE {} of {}, expected {} of {}", pe.index,
                                    pe.count, group_.rank, group_.num_ranks));
    }
    return std::make_unique<NvshmemMemory>(bytes_, group_);
  }

 private:
  MakerGroup group_;
  std::size_t bytes_ = 0;
};

}  // namespace

std::string find_missing_for_nvshmem() {
  if (!nvshmem().missing().empty()) return nvshmem().missing();
  for (const char* name : {"nvshmemx_init_status", "nvshmemx_get_uniqueid", "nvshmem_align",
                           "nvshmem_ptr", "nvshmemx_hostlib_init_attr"}) {
    if (nvshmem().find<void()>(name) == nullptr) return formatted("NVSHMEM has no {}()", name);
  }
  return "";
}

std::unique_ptr<Maker> make_nvshmem(const MakerGroup& group) {
  return std::make_unique<NvshmemMaker>(group);
}

}  // namespace lplb::exchange
