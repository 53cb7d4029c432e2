// SPDX-License-Identifier: MIT
#pragma once

#include <cuda_runtime_api.h>

#include "core/device.h"
#include "solve/ipm/tables.h"

// The CUDA twin of cpu.cc: the same iterations in one kernel, one instance in each block. The proof
// is made on the host, from the prices.
namespace lplb::solvers {

/// The kernel of one of kIpmSizes.
using IpmKernel = void (*)(IpmKernelArgs);
IpmKernel ipm_kernel(IpmSize size);

/// A placement on the device, and memory for batches of it.
class IpmDevice {
 public:
  /// Uploads what follows from the placement, and allocates. Kernels run on the current device.
  /// Throws CudaError if the solver cannot run there, and ArgumentError if the placement has more
  /// live ranks or places than the largest size.
  IpmDevice(const SplitProblem::Tables& tables, int max_instances);

  /// Sizes and device pointers. Before a launch, fill want [instances, K] and fixed [instances,
  /// live ranks]; after it, read take, price and outcome. kept may be set to null: no warm starts.
  IpmKernelArgs& args() { return args_; }

  /// Solves `instances` batches by one kernel on `stream`, and does nothing else. May be captured
  /// in a graph. With `warm_start`, each instance starts from the point at which the instance of
  /// the same number last ended.
  void launch(int instances, const SolveOptions& options, cudaStream_t stream);

  const IpmTables& tables() const { return tables_; }

 private:
  IpmTables tables_;
  IpmKernelArgs args_{};
  IpmKernel kernel_ = nullptr;
  device::Array<std::int32_t> integers_;
  device::Array<double> speed_, kept_, price_;
  device::Array<std::int64_t> want_, fixed_, take_;
  device::Array<IpmOutcome> outcome_;
};

/// Does what solve_ipm() does, with the iterations on the device. For tests and single uses: it
/// makes an IpmDevice, waits for it, and proves the bound. `buffers.ipm.result` has T and the bound
/// in units of the mean load.
void solve_ipm_cuda(const SplitProblem::Tables& tables, const SolveOptions& options,
                    Workspace::Buffers& buffers);

}  // namespace lplb::solvers
