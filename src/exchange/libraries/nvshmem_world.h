// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <vector>

#include "exchange/libraries/shared_library.h"
#include "lplb/types.h"

// NVSHMEM's world, through its host library only, which is looked up at run time. If the process
// has already started NVSHMEM (DeepEP does, for example), that world is used.
namespace lplb::exchange {

/// libnvshmem_host.so.3.
const SharedLibrary& nvshmem();

/// What each rank must tell the others before start_nvshmem(). Throws ExchangeError.
std::vector<std::byte> offer_nvshmem(Index rank);

/// Starts a world of all ranks, unless all ranks have already started one. `offers` holds what
/// offer_nvshmem() returned on each rank. Collective. Throws ExchangeError.
void start_nvshmem(Index rank, Index num_ranks, const std::vector<std::vector<std::byte>>& offers);

/// The number of this process in the world, and how many processes the world has.
struct NvshmemPe {
  int index;
  int count;
};
NvshmemPe nvshmem_pe();

/// Zeroed symmetric memory. Collective, and so is nvshmem_release(). Throws ExchangeError or
/// CudaError.
void* nvshmem_allocate(std::size_t bytes);
void nvshmem_release(void* memory) noexcept;

}  // namespace lplb::exchange
