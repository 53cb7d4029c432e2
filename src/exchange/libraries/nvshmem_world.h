// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <vector>

#include "exchange/libraries/shared_library.h"
#include "lplb/types.h"

// NVSHMEM's world, by its host library alone, found at run time. Where the process has started
// NVSHMEM already (DeepEP, say), that world is joined.
namespace lplb::exchange {

/// libnvshmem_host.so.3.
const SharedLibrary& nvshmem();

/// What rank 0 and the others tell each other before start_nvshmem(). Throws ExchangeError.
std::vector<std::byte> offer_nvshmem(Index rank);

/// Starts a world of all ranks, from what each one's offer_nvshmem() returned, unless all have
/// started one. Collective. Throws ExchangeError.
void start_nvshmem(Index rank, Index num_ranks, const std::vector<std::vector<std::byte>>& offers);

/// This process's number in the world, and how many there are.
struct NvshmemPe {
  int index;
  int count;
};
NvshmemPe nvshmem_pe();

/// Symmetric memory, zero. Collective, and so is nvshmem_free(). Throws ExchangeError or CudaError.
void* nvshmem_allocate(std::size_t bytes);
void nvshmem_release(void* memory) noexcept;

}  // namespace lplb::exchange
