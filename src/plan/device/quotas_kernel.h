// SPDX-License-Identifier: MIT
#pragma once

#include <cuda_runtime_api.h>

#include "plan/device/args.h"
#include "plan/quotas.h"

namespace lplb::plan {

struct QuotaArgs {
  const unsigned char* image;
  const std::int32_t* all_counts;  ///< null: all ranks have the same tokens
  Index rank;                      ///< 0 if all ranks have the same tokens
  Index row;                       ///< this rank's row of all_counts; 0 if there is none
  Trace trace;                     ///< of the batch
  QuotaOutputs outputs;
};

/// Enqueues one kernel. Throws CudaError.
void launch_quotas(const QuotaArgs& args, Index num_logical, cudaStream_t stream);

}  // namespace lplb::plan
