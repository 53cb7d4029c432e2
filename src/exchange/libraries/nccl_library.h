// SPDX-License-Identifier: MIT
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <string>

// NCCL, found at run time: what of its API is used here, in its own terms but without its header.
namespace lplb::exchange {

struct NcclLibrary {
  // Types and values as in nccl.h, all versions from 2.
  using Comm = void*;
  using Window = void*;
  using Result = int;
  static constexpr int kInt8 = 0;
  static constexpr int kInt32 = 2;
  static constexpr int kWindowSymmetric = 1;

  int version = 0;      ///< 22809: 2.28.9
  std::string missing;  ///< why there is no NCCL; empty: there is

  const char* (*error_string)(Result) = nullptr;
  const char* (*last_error)(Comm) = nullptr;  ///< may be null
  Result (*comm_count)(Comm, int*) = nullptr;
  Result (*comm_user_rank)(Comm, int*) = nullptr;
  Result (*all_gather)(const void*, void*, std::size_t, int, Comm, cudaStream_t) = nullptr;
  // From 2.19, 2.27 and 2.29; null before.
  Result (*mem_alloc)(void**, std::size_t) = nullptr;
  Result (*mem_free)(void*) = nullptr;
  Result (*window_register)(Comm, void*, std::size_t, Window*, int) = nullptr;
  Result (*window_deregister)(Comm, Window) = nullptr;
  Result (*peer_pointer)(Window, std::size_t, int, void**) = nullptr;

  /// The process's NCCL.
  static const NcclLibrary& get();
  /// Throws ExchangeError("CALL: what went wrong").
  void check(Result result, const char* call) const;
  /// As get(), but throws ExchangeError where there is none.
  static const NcclLibrary& require();
  std::string version_text() const;

  /// How the communicator's rank is another one than expected; empty: it is not. Throws
  /// ExchangeError.
  std::string find_other_rank(Comm comm, int rank, int num_ranks) const;
  /// Zeroed memory for a window, of `*bytes` rounded up to what windows take; mem_free() frees it.
  /// Throws ExchangeError or CudaError.
  void* allocate(std::size_t* bytes) const;
  /// Symmetric, collective. Throws ExchangeError.
  Window register_memory(Comm comm, void* memory, std::size_t bytes) const;
};

}  // namespace lplb::exchange
