// SPDX-License-Identifier: MIT
#include "core/device.h"
#include "solve/device/solve_kernel.cuh"
#include "solve/device/time_kernels.h"

namespace lplb::solvers {
namespace {

constexpr Form kForms[] = {Form::kCut, Form::kFlow32, Form::kFlow96, Form::kFlow128,
                           Form::kFlowBlock};

}  // namespace

SolveKernel time_kernel(Form form) {
  switch (form) {
    case Form::kCut:
      return solve_kernel<Form::kCut, true>;
    case Form::kFlow32:
      return solve_kernel<Form::kFlow32, true>;
    case Form::kFlow96:
      return solve_kernel<Form::kFlow96, true>;
    case Form::kFlow128:
      return solve_kernel<Form::kFlow128, true>;
    default:
      return solve_kernel<Form::kFlowBlock, true>;
  }
}

void allow_time_kernels(int bytes) {
  for (const Form form : kForms) {
    LPLB_CUDA_CHECK(cudaFuncSetAttribute(reinterpret_cast<const void*>(time_kernel(form)),
                                         cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
  }
}

}  // namespace lplb::solvers
