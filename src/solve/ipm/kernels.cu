// SPDX-License-Identifier: MIT
#include <iterator>
#include <utility>

#include "solve/ipm/cuda.h"
#include "solve/ipm/kernel.cuh"

namespace lplb::solvers {
namespace {

template <int kRows, int kLanes>
__global__ void __launch_bounds__(kRows* kLanes, 1)
    kernel_of_size(const __grid_constant__ IpmKernelArgs args) {
  extern __shared__ __align__(16) double shared[];
  IpmBlock<kRows, kLanes>(args, shared).run();
}

template <std::size_t... kIndex>
IpmKernel find_kernel(IpmSize size, std::index_sequence<kIndex...>) {
  IpmKernel found = nullptr;
  ((found = size.rows == kIpmSizes[kIndex].rows
                ? kernel_of_size<kIpmSizes[kIndex].rows, kIpmSizes[kIndex].lanes>
                : found),
   ...);
  return found;
}

}  // namespace

IpmKernel ipm_kernel(IpmSize size) {
  return find_kernel(size, std::make_index_sequence<std::size(kIpmSizes)>());
}

}  // namespace lplb::solvers
