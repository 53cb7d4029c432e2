// SPDX-License-Identifier: MIT
#pragma once

#include <cuda_runtime_api.h>

#include <string>

#include "core/device.h"
#include "exchange/libraries/shared_library.h"

namespace lplb::bench {

/// Work that stands for the experts of a layer: 8 products of [2048, 7168] and [7168, 4096] in
/// bfloat16, by one call of cuBLAS, which is looked up at run time. The matrices are zero.
class MatrixProduct {
 public:
  /// Why there is no cuBLAS; empty if there is.
  static const std::string& missing() { return library().missing(); }

  MatrixProduct()
      : a_(kExperts * kDepth * kRows),
        b_(kExperts * kDepth * kColumns),
        c_(kExperts * kRows * kColumns),
        workspace_(kWorkspace) {
    check(library().get<int(void**)>("cublasCreate_v2")(&handle_), "cublasCreate");
    for (const auto* array : {&a_, &b_, &c_}) {
      LPLB_CUDA_CHECK(cudaMemset(array->get(), 0, array->capacity() * sizeof(short)));
    }
    // NOTE: the first call loads kernels, which must not happen while a graph is captured.
    device::Stream stream;
    enqueue(stream.get());
    LPLB_CUDA_CHECK(cudaDeviceSynchronize());
  }
  ~MatrixProduct() { (void)library().get<int(void*)>("cublasDestroy_v2")(handle_); }
  MatrixProduct(const MatrixProduct&) = delete;
  MatrixProduct& operator=(const MatrixProduct&) = delete;

  void enqueue(cudaStream_t stream) const {
    check(library().get<int(void*, cudaStream_t)>("cublasSetStream_v2")(handle_, stream),
          "cublasSetStream");
    check(library().get<int(void*, void*, std::size_t)>("cublasSetWorkspace_v2")(
              handle_, workspace_.get(), kWorkspace),
          "cublasSetWorkspace");
    constexpr int kBFloat16 = 14;   // CUDA_R_16BF
    constexpr int kCompute32 = 68;  // CUBLAS_COMPUTE_32F
    constexpr int kDefault = -1;    // CUBLAS_GEMM_DEFAULT
    const float one = 1;
    const float zero = 0;
    using Product = int(void*, int, int, int, int, int, const void*, const void*, int, int,
                        long long, const void*, int, int, long long, const void*, void*, int, int,
                        long long, int, int, int);
    check(library().get<Product>("cublasGemmStridedBatchedEx")(
              handle_, 0, 0, kRows, kColumns, kDepth, &one, a_.get(), kBFloat16, kRows,
              kRows * kDepth, b_.get(), kBFloat16, kDepth, kDepth * kColumns, &zero, c_.get(),
              kBFloat16, kRows, kRows * kColumns, kExperts, kCompute32, kDefault),
          "cublasGemmStridedBatchedEx");
  }

 private:
  static constexpr long long kExperts = 8;
  static constexpr long long kRows = 4096;
  static constexpr long long kColumns = 2048;
  static constexpr long long kDepth = 7168;
  static constexpr std::size_t kWorkspace = std::size_t{32} << 20;

  static const exchange::SharedLibrary& library() {
    static const exchange::SharedLibrary found = [] {
      const exchange::SharedLibrary newest("libcublas.so.13");
      return newest.missing().empty() ? newest : exchange::SharedLibrary("libcublas.so.12");
    }();
    return found;
  }
  static void check(int status, const char* call) {
    if (status != 0) throw ExchangeError(std::string(call) + ": status " + std::to_string(status));
  }

  device::Array<short> a_, b_, c_;
  device::Array<unsigned char> workspace_;
  void* handle_ = nullptr;
};

}  // namespace lplb::bench
