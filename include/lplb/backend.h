// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "lplb/error.h"

namespace lplb {

/// Where a stage runs. Integer results of the two are equal, bit for bit.
enum class Backend {
  kCpu,
  kCuda,
};

/// "cpu", "cuda" and back. Throws ArgumentError for any other name.
Backend parse_backend(std::string_view name);
const char* backend_name(Backend backend);

/// A call of the CUDA runtime failed, or no device can be used. The message names the call.
class CudaError : public Error {
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

/// What there is of CUDA, in this build and on this machine.
struct CudaSupport {
  bool compiled = false;
  int toolkit = 0;            ///< 13000: 13.0; 0 where not compiled
  int driver = 0;             ///< the newest CUDA that the driver knows; 0: no driver
  std::string architectures;  ///< "80, 90, 100, 120"
  std::vector<CudaDevice> devices;
  std::string missing;  ///< why kCuda cannot be used; empty: it can
};

/// Asks the runtime, once a process; initialises no device.
const CudaSupport& cuda_support();

/// NVIDIA MathDx, which the CUDA kernel of Solver::kIpm is built with: the other solvers do
/// without.
struct MathDxSupport {
  std::string version;        ///< "cuSolverDx 0.2.1"; empty where it is not built in
  std::string architectures;  ///< "90, 100": what that kernel is compiled for
  std::string missing;        ///< why it is not built in; empty: it is
};

const MathDxSupport& mathdx_support();

}  // namespace lplb
