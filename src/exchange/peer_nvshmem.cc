// SPDX-License-Identifier: MIT
#include <fmt/format.h>

#include <cstring>

#include "core/device.h"
#include "exchange/peer_memory.h"
#include "exchange/shared_library.h"
#include "lplb/error.h"

// NVSHMEM's symmetric memory. Its host library alone is used, found at run time: nvshmem_ptr()
// gives plain pointers. Where the process has started NVSHMEM already (DeepEP, say), that world is
// joined.
namespace lplb {
namespace {

// As in nvshmem_types.h, version 1 of each, which all releases since 3.0 take.
struct UniqueId {
  int version = (1 << 16) + 128;
  char bytes[124] = {};
};
static_assert(sizeof(UniqueId) == 128);
struct InitAttributes {
  int version = (1 << 16) + 144;
  void* mpi_comm = nullptr;
  int args_version = (1 << 16) + 128;
  struct {
    int version = (1 << 16) + 24;
    UniqueId* id = nullptr;
    int rank = -1;
    int num_ranks = -1;
  } id;
  char rest[96] = {};
};
static_assert(sizeof(InitAttributes) == 144);
constexpr unsigned kInitWithUniqueId = 1u << 3;
constexpr int kIsInitialized = 2;

const SharedLibrary& nvshmem() {
  static const SharedLibrary library("libnvshmem_host.so.3");
  return library;
}

void check(int status, const char* call) {
  if (status != 0) throw ExchangeError(fmt::format("{}: status {}", call, status));
}

bool is_started() { return nvshmem().get<int()>("nvshmemx_init_status")() >= kIsInitialized; }

class NvshmemMemory : public PeerMemory {
 public:
  /// Collective. NOTE: where this throws, or another rank's does, the memory stays: to free it is
  /// collective too.
  NvshmemMemory(std::size_t bytes, const MakerGroup& group) {
    bytes_ = bytes;
    own_ = nvshmem().get<void*(std::size_t, std::size_t)>("nvshmem_align")(ExchangeLayout::kAlign,
                                                                           bytes);
    if (own_ == nullptr) {
      throw ExchangeError(fmt::format("nvshmem_align: no {} bytes of symmetric memory", bytes));
    }
    LPLB_CUDA_CHECK(cudaMemset(own_, 0, bytes));
    LPLB_CUDA_CHECK(cudaDeviceSynchronize());
    nvshmem().get<void()>("nvshmem_barrier_all")();
    auto* const pointer_at = nvshmem().get<void*(const void*, int)>("nvshmem_ptr");
    for (Index g = 0; g < group.num_ranks; ++g) {
      void* const there = g == group.rank ? own_ : pointer_at(own_, g);
      if (there == nullptr) {
        throw ExchangeError(fmt::format("nvshmem_ptr: the memory of rank {} is out of reach", g));
      }
      buffers_.push_back(there);
    }
  }
  /// Collective too: every rank ends its group.
  ~NvshmemMemory() override {
    if (is_settled_) nvshmem().get<void(void*)>("nvshmem_free")(own_);
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
    UniqueId id;
    if (group_.rank == 0 && !is_started()) {
      check(nvshmem().get<int(UniqueId*)>("nvshmemx_get_uniqueid")(&id), "nvshmemx_get_uniqueid");
    }
    std::vector<std::byte> offer(1 + sizeof(id));
    offer[0] = static_cast<std::byte>(is_started() ? 1 : 0);
    std::memcpy(offer.data() + 1, &id, sizeof(id));
    return offer;
  }

  std::unique_ptr<PeerMemory> accept(const std::vector<std::vector<std::byte>>& offers) override {
    for (std::size_t g = 0; g < offers.size(); ++g) {
      if (offers[g].size() != 1 + sizeof(UniqueId) || offers[g][0] != offers[0][0]) {
        throw ExchangeError(fmt::format("NVSHMEM is up on one of ranks 0 and {} alone", g));
      }
    }
    if (offers[0][0] == std::byte{0}) start(offers[0]);
    const int num_pes = nvshmem().get<int()>("nvshmem_n_pes")();
    const int pe = nvshmem().get<int()>("nvshmem_my_pe")();
    if (num_pes != group_.num_ranks || pe != group_.rank) {
      throw ExchangeError(fmt::format("NVSHMEM runs as PE {} of {}, expected {} of {}", pe, num_pes,
                                      group_.rank, group_.num_ranks));
    }
    return std::make_unique<NvshmemMemory>(bytes_, group_);
  }

 private:
  void start(const std::vector<std::byte>& offer) {
    UniqueId id;
    std::memcpy(&id, offer.data() + 1, sizeof(id));
    InitAttributes attributes;
    check(nvshmem().get<int(int, int, const UniqueId*, InitAttributes*)>(
              "nvshmemx_set_attr_uniqueid_args")(group_.rank, group_.num_ranks, &id, &attributes),
          "nvshmemx_set_attr_uniqueid_args");
    check(nvshmem().get<int(unsigned, InitAttributes*)>("nvshmemx_hostlib_init_attr")(
              kInitWithUniqueId, &attributes),
          "nvshmemx_hostlib_init_attr");
  }

  MakerGroup group_;
  std::size_t bytes_ = 0;
};

}  // namespace

std::string find_missing_for_nvshmem() {
  if (!nvshmem().missing().empty()) return nvshmem().missing();
  for (const char* name : {"nvshmemx_init_status", "nvshmemx_get_uniqueid", "nvshmem_align",
                           "nvshmem_ptr", "nvshmemx_hostlib_init_attr"}) {
    if (nvshmem().find<void()>(name) == nullptr) return fmt::format("NVSHMEM has no {}()", name);
  }
  return "";
}

std::unique_ptr<Maker> make_nvshmem(const MakerGroup& group) {
  return std::make_unique<NvshmemMaker>(group);
}

}  // namespace lplb
