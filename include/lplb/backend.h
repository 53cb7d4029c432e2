// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "lplb/error.h"
#include "lplb/export.h"

namespace lplb {

/// Where a stage runs. Both backends give the same integer results, bit for bit.
enum class Backend {
  kCpu,
  kCuda,
};

/// Converts "cpu" and "cuda" to a Backend, and back. Throws ArgumentError for any other name.
LPLB_API Backend parse_backend(std::string_view name);
LPLB_API const char* backend_name(Backend backend);

/// A call of the CUDA runtime failed, or no device can be used. The message names the call.
class LPLB_API CudaError : public Error {
 public:
  using Error::Error;
};

struct CudaDevice {
  std::string name;
  int compute_major = 0;
  int compute_minor = 0;
  int num_multiprocessors = 0;
  std::int64_t memory_bytes = 0;
  int shared_memory_bytes = 0;  ///< the most that a block can have
};

/// What this build and this machine have of CUDA.
struct CudaSupport {
  bool compiled = false;      ///< the build has the kernels
  int toolkit = 0;            ///< CUDA version of the build, 13000 for 13.0; 0: not compiled
  int driver = 0;             ///< the newest CUDA version that the driver knows; 0: no driver
  std::string architectures;  ///< "80, 90, 100, 120": what kernels are compiled for
  std::vector<CudaDevice> devices;
  std::string missing;  ///< why kCuda cannot be used; empty: it can
};

/// Asks the CUDA runtime at the first call in a process. Later calls return the same answer.
LPLB_API const CudaSupport& cuda_support();

}  // namespace lplb
