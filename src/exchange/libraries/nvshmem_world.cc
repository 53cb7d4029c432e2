// SPDX-License-Identifier: MIT
#include "exchange/libraries/nvshmem_world.h"

#include <cstring>

#include "core/device.h"
#include "core/format.h"
#include "exchange/peer/layout.h"

namespace lplb::exchange {
namespace {

// These structs are as in nvshmem_types.h, in version 1, which all releases since 3.0 accept.
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

void check(int status, const char* call) {
  if (status != 0) throw ExchangeError(formatted("{}: status {}", call, status));
}

bool is_started() { return nvshmem().get<int()>("nvshmemx_init_status")() >= kIsInitialized; }

}  // namespace

const SharedLibrary& nvshmem() {
  static const SharedLibrary library("libnvshmem_host.so.3");
  return library;
}

std::vector<std::byte> offer_nvshmem(Index rank) {
  UniqueId id;
  if (rank == 0 && !is_started()) {
    check(nvshmem().get<int(UniqueId*)>("nvshmemx_get_uniqueid")(&id), "nvshmemx_get_uniqueid");
  }
  std::vector<std::byte> offer(1 + sizeof(id));
  offer[0] = static_cast<std::byte>(is_started() ? 1 : 0);
  std::memcpy(offer.data() + 1, &id, sizeof(id));
  return offer;
}

void start_nvshmem(Index rank, Index num_ranks, const std::vector<std::vector<std::byte>>& offers) {
  for (std::size_t g = 0; g < offers.size(); ++g) {
    if (offers[g].size() != 1 + sizeof(UniqueId) || offers[g][0] != offers[0][0]) {
      throw ExchangeError(formatted("NVSHMEM is up on one of ranks 0 and {} alone", g));
    }
  }
  if (offers[0][0] != std::byte{0}) return;
  UniqueId id;
  std::memcpy(&id, offers[0].data() + 1, sizeof(id));
  InitAttributes attributes;
  check(nvshmem().get<int(int, int, const UniqueId*, InitAttributes*)>(
            "nvshmemx_set_attr_uniqueid_args")(rank, num_ranks, &id, &attributes),
        "nvshmemx_set_attr_uniqueid_args");
  check(nvshmem().get<int(unsigned, InitAttributes*)>("nvshmemx_hostlib_init_attr")(
            kInitWithUniqueId, &attributes),
        "nvshmemx_hostlib_init_attr");
}

NvshmemPe nvshmem_pe() {
  return {nvshmem().get<int()>("nvshmem_my_pe")(), nvshmem().get<int()>("nvshmem_n_pes")()};
}

void* nvshmem_allocate(std::size_t bytes) {
  void* const memory = nvshmem().get<void*(std::size_t, std::size_t)>("nvshmem_align")(
      ExchangeLayout::kAlign, bytes);
  if (memory == nullptr) {
    throw ExchangeError(formatted("nvshmem_align: no {} bytes of symmetric memory", bytes));
  }
  LPLB_CUDA_CHECK(cudaMemset(memory, 0, bytes));
  LPLB_CUDA_CHECK(cudaDeviceSynchronize());
  return memory;
}

void nvshmem_release(void* memory) noexcept {
  auto* const release = nvshmem().find<void(void*)>("nvshmem_free");
  if (release != nullptr) release(memory);
}

}  // namespace lplb::exchange
