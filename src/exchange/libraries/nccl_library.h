// SPDX-License-Identifier: MIT
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <string>

// NCCL, looked up at run time. This file declares the part of its API that is used here, without
// NCCL's header.
namespace lplb::exchange {

struct NcclLibrary {
  // Types and values as in nccl.h; they hold for all versions from 2.
  using Comm = void*;
  using Window = void*;
  using Result = int;
  static constexpr int kInt8 = 0;
  static constexpr int kInt32 = 2;
  static constexpr int kWindowSymmetric = 1;

  int version = 0;      ///< 22809: 2.28.9
  std::string missing;  ///< why NCCL cannot be used; empty: it can

  const char* (*error_string)(Result) = nullptr;
  const char* (*last_error)(Comm) = nullptr;  ///< may be null
  Result (*comm_count)(Comm, int*) = nullptr;
  Result (*comm_user_rank)(Comm, int*) = nullptr;
  Result (*all_gather)(const void*, void*, std::size_t, int, Comm, cudaStream_t) = nullptr;
  // mem_* are there since NCCL 2.19, window_* since 2.27, peer_pointer since 2.29. Null in older
  // versions.
  Result (*mem_alloc)(void**, std::size_t) = nullptr;
  Result (*mem_free)(void*) = nullptr;
  Result (*window_register)(Comm, void*, std::size_t, Window*, int) = nullptr;
  Result (*window_deregister)(Comm, Window) = nullptr;
  Result (*peer_pointer)(Window, std::size_t, int, void**) = nullptr;

  /// The NCCL of this process.
  static const NcclLibrary& get();
  /// Throws ExchangeError("CALL: what went wrong") unless `result` is success.
  void check(Result result, const char* call) const;
  /// Like get(), but throws ExchangeError if there is no NCCL.
  static const NcclLibrary& require();
  std::string version_text() const;

  /// Says how the communicator's rank or size differs from what is expected; empty if it does not.
  /// Throws ExchangeError.
  std::string find_other_rank(Comm comm, int rank, int num_ranks) const;
  /// Allocates zeroed memory for a window. Rounds `*bytes` up to a size that a window can have. The
  /// caller frees the memory with mem_free(). Throws ExchangeError or CudaError.
  void* allocate(std::size_t* bytes) const;
  /// Registers a symmetric window. Collective. Throws ExchangeError.
  Window register_memory(Comm comm, void* memory, std::size_t bytes) const;
};

}  // namespace lplb::exchange
