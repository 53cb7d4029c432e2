// SPDX-License-Identifier: MIT
#pragma once

#include <cuda_runtime_api.h>

#include "core/device.h"
#include "solve/ipm/tables.h"

// CUDA twin of ipm_cpu.cc: the same iterations in one kernel, a block an instance. Only in builds
// with MathDx (mathdx_support()). The proof follows on the host, from the prices.
namespace lplb::solvers {

/// A placement on the device, and room for batches of it.
class IpmDevice {
 public:
  /// Uploads what follows from the placement and allocates; kernels run on the current device.
  /// Throws CudaError where it cannot run there, ArgumentError where the placement has more live
  /// ranks or places than the largest size takes.
  IpmDevice(const SplitProblem::Tables& tables, int max_instances);

  /// Sizes and device pointers: fill want [instances, K] and fixed [instances, live ranks] before
  /// a launch, read take, price and outcome after it. kept may be set to null: no warm starts.
  IpmKernelArgs& args() { return args_; }

  /// Solves `instances` batches: one kernel on `stream`, nothing else. May be captured in a graph.
  /// `warm` starts each instance from what its place in the batch last ended with.
  void launch(int instances, const SolveOptions& options, cudaStream_t stream);

  const IpmTables& tables() const { return tables_; }

 private:
  IpmTables tables_;
  IpmKernelArgs args_{};
  cudaKernel_t kernel_ = nullptr;
  device::Array<std::int32_t> integers_;
  device::Array<double> speed_, kept_, price_;
  device::Array<std::int64_t> want_, fixed_, take_;
  device::Array<IpmOutcome> outcome_;
};

/// What solve_ipm() does, with the iterations on the device: for tests and single uses. Makes an
/// IpmDevice, waits for it, proves. `buffers.ipm.result` has T and bound in units of the mean load.
void solve_ipm_cuda(const SplitProblem::Tables& tables, const SolveOptions& options,
                    Workspace::Buffers& buffers);

}  // namespace lplb::solvers
